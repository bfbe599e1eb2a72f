import {
  Alert, Anchor, Button, Container, Group, Paper, PasswordInput, Stack, Tabs, Text, TextInput, Title,
} from '@mantine/core'
import { useMutation } from '@tanstack/react-query'
import { type ReactNode, type SubmitEvent, useEffect, useState } from 'react'
import { serverAddress } from '../api/place'
import { register, session, signIn } from '../api/session'
import icon from '../icon.svg'
import { Problem } from '../ui/Problem'

/** Sign in or make an account, here or at another server. */
export function Login({ why }: { why: string | null }): ReactNode {
  const [tab, setTab] = useState<string | null>('in')
  const [email, setEmail] = useState('')
  const [password, setPassword] = useState('')
  const [name, setName] = useState('')
  const [secret, setSecret] = useState('')
  const [server, setServer] = useState(session.base())
  const [elsewhere, setElsewhere] = useState(session.base() !== '')
  const found = serverAddress(server.trim())
  const at = elsewhere ? (found ?? '') : ''
  const wrong = elsewhere && found === null ? 'A server is an address such as https://hexa.example' : null
  const [passing] = useState(session.passing)
  useEffect(() => {
    document.title = 'Sign in · Hexa'
  }, [])
  const enter = useMutation({
    mutationFn: () =>
      tab === 'new'
        ? register(at, {
            email: email.trim(),
            password,
            ...(name.trim() === '' ? {} : { name: name.trim() }),
            ...(secret.trim() === '' ? {} : { bootstrap_secret: secret.trim() }),
          })
        : signIn(at, email.trim(), password),
  })
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    if (wrong === null && !enter.isPending) enter.mutate()
  }
  return (
    <Container component="main" size={440} py="xl">
      <Stack>
        <Group gap="sm" justify="center">
          <img src={icon} alt="" width={40} height={40} />
          <Title order={1} size="h2">
            Hexa
          </Title>
        </Group>
        {why !== null && (
          <Alert color="yellow" className="hx-warning" role="status">
            {why}
          </Alert>
        )}
        <Paper withBorder p="lg">
          <form onSubmit={submit}>
            <Stack>
              <Tabs value={tab} onChange={(next) => { setTab(next); enter.reset() }}>
                <Tabs.List grow>
                  <Tabs.Tab value="in">Sign in</Tabs.Tab>
                  <Tabs.Tab value="new">New account</Tabs.Tab>
                </Tabs.List>
              </Tabs>
              <TextInput label="E-mail" type="email" autoComplete="username" required value={email} onChange={(e) => setEmail(e.currentTarget.value)} autoFocus />
              <PasswordInput
                label="Password"
                autoComplete={tab === 'new' ? 'new-password' : 'current-password'}
                description={tab === 'new' ? '12 to 128 characters; a few words that do not belong together are good' : undefined}
                required
                value={password}
                onChange={(e) => setPassword(e.currentTarget.value)}
                visibilityToggleButtonProps={{ 'aria-label': 'Show the password' }}
              />
              {tab === 'new' && (
                <>
                  <TextInput label="Name" autoComplete="name" maxLength={64} value={name} onChange={(e) => setName(e.currentTarget.value)} />
                  <TextInput
                    label="Bootstrap secret"
                    description="For the first admin only: the server printed it at its first start"
                    autoComplete="off"
                    value={secret}
                    onChange={(e) => setSecret(e.currentTarget.value)}
                  />
                </>
              )}
              {elsewhere && (
                <TextInput
                  label="Server"
                  placeholder="https://hexa.example"
                  value={server}
                  error={server.trim() === '' ? null : wrong}
                  required
                  onChange={(e) => setServer(e.currentTarget.value)}
                  description="This page's server must name it in DASHBOARD_CONNECT_SRC, and it this one in CORS_ALLOWED_ORIGINS"
                />
              )}
              {at !== '' && wrong === null && (
                <Alert color="yellow" className="hx-warning" title="Less protected">
                  For another server the session is kept in this browser&apos;s storage, where scripts of this page can read it.
                </Alert>
              )}
              {passing !== null && (
                <Alert color="yellow" className="hx-warning" title="Not kept">
                  {passing}
                </Alert>
              )}
              {window.location.protocol === 'http:' && !window.isSecureContext && (
                <Alert color="yellow" className="hx-warning" title="Not encrypted">
                  Everybody on this network can read the password. Use https.
                </Alert>
              )}
              {enter.isError && <Problem thrown={enter.error} title={tab === 'new' ? 'No account was made' : 'You are not signed in'} />}
              <Button type="submit" loading={enter.isPending} fullWidth>
                {tab === 'new' ? 'Make the account' : 'Sign in'}
              </Button>
            </Stack>
          </form>
        </Paper>
        <Text size="sm" ta="center">
          <Anchor component="button" type="button" onClick={() => setElsewhere(!elsewhere)} underline="always">
            {elsewhere ? 'Use the server of this page' : 'Use another server'}
          </Anchor>
        </Text>
      </Stack>
    </Container>
  )
}

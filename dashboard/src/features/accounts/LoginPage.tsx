import {
  Alert, Anchor, Button, Container, Group, Paper, PasswordInput, Stack, Tabs, Text, TextInput, Title,
} from '@mantine/core'
import { useMutation, useQuery } from '@tanstack/react-query'
import { type ReactNode, type SubmitEvent, useEffect, useState } from 'react'
import { serverAddress } from '../../api/serverUrl'
import { registrationQuery } from '../../api/queries'
import { register, session, signIn } from '../../api/session'
import icon from '../../icon.svg'
import { spent, tokenOf, useInvitation } from './invitations/invitationLink'
import { Problem } from '../../ui/ErrorAlert'

/** Sign in or make an account, here or at another server. */
export function Login({ why }: { why: string | null }): ReactNode {
  const brought = useInvitation()
  const [tab, setTab] = useState<string | null>('in')
  const [invitation, setInvitation] = useState('')
  const [email, setEmail] = useState('')
  const [password, setPassword] = useState('')
  const [name, setName] = useState('')
  const [secret, setSecret] = useState('')
  const [server, setServer] = useState(session.base())
  const [elsewhere, setElsewhere] = useState(session.base() !== '')
  const [seen, setSeen] = useState<string | null>(null)
  if (seen !== brought) {
    // A link is for the server of this page.
    setSeen(brought)
    setInvitation(brought ?? '')
    if (brought !== null) {
      setTab('new')
      setElsewhere(false)
    }
  }
  const found = serverAddress(server.trim())
  const at = elsewhere ? (found ?? '') : ''
  const wrong = elsewhere && found === null ? 'A server is an address such as https://hexa.example' : null
  const [passing] = useState(session.passing)
  const may = useQuery({ ...registrationQuery(at), enabled: wrong === null })
  // Until it is known whether there is a way in, there may be one; where nobody says, the server will.
  const mode = may.data?.mode ?? 'open'
  const awaitsAdmin = may.data?.awaits_bootstrap ?? may.isError
  const open = mode !== 'closed' || awaitsAdmin
  const making = tab === 'new' && open
  const invited = tokenOf(invitation)
  useEffect(() => {
    document.title = 'Sign in · Hexa'
  }, [])
  const enter = useMutation({
    mutationFn: () =>
      making
        ? register(at, {
            email: email.trim(),
            password,
            ...(name.trim() === '' ? {} : { name: name.trim() }),
            ...(awaitsAdmin && secret.trim() !== '' ? { bootstrap_secret: secret.trim() } : invited === '' ? {} : { invitation: invited }),
          })
        : signIn(at, email.trim(), password),
    onSuccess: () => {
      if (making) spent()
    },
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
              {open && (
                <Tabs value={tab} onChange={(next) => { setTab(next); enter.reset() }}>
                  <Tabs.List grow>
                    <Tabs.Tab value="in">Sign in</Tabs.Tab>
                    <Tabs.Tab value="new">New account</Tabs.Tab>
                  </Tabs.List>
                </Tabs>
              )}
              {!open && brought !== null && (
                <Alert color="yellow" className="hx-warning" title="No new accounts">
                  Nobody may make an account here at the moment, with an invitation neither. Ask whoever runs this server.
                </Alert>
              )}
              {making && mode === 'invite' && invited === '' && (
                <Alert color="blue" role="note" title="By invitation">
                  Accounts are made here with an invitation. Ask an admin of this server for a link, and open it.
                </Alert>
              )}
              <TextInput label="E-mail" type="email" autoComplete="username" required value={email} onChange={(e) => setEmail(e.currentTarget.value)} autoFocus />
              <PasswordInput
                label="Password"
                autoComplete={making ? 'new-password' : 'current-password'}
                description={making ? '12 to 128 characters; a few words that do not belong together are good' : undefined}
                required
                value={password}
                onChange={(e) => setPassword(e.currentTarget.value)}
                visibilityToggleButtonProps={{ 'aria-label': 'Show the password' }}
              />
              {making && (
                <>
                  <TextInput label="Name" autoComplete="name" maxLength={64} value={name} onChange={(e) => setName(e.currentTarget.value)} />
                  {(mode === 'invite' || invited !== '') && (
                    <TextInput
                      label="Invitation"
                      description="The link that an admin has given you; good once, for 7 days"
                      autoComplete="off"
                      spellCheck={false}
                      required={mode === 'invite' && !(awaitsAdmin && secret.trim() !== '')}
                      value={invitation}
                      onChange={(e) => setInvitation(e.currentTarget.value)}
                    />
                  )}
                  {awaitsAdmin && (
                    <TextInput
                      label="Bootstrap secret"
                      description="For the first admin only: the server printed it at its first start"
                      autoComplete="off"
                      value={secret}
                      onChange={(e) => setSecret(e.currentTarget.value)}
                    />
                  )}
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
              {enter.isError && <Problem thrown={enter.error} title={making ? 'No account was made' : 'You are not signed in'} />}
              <Button type="submit" loading={enter.isPending} fullWidth>
                {making ? 'Make the account' : 'Sign in'}
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

import {
  Alert, Anchor, Button, Container, Group, Paper, PasswordInput, Stack, Tabs, Text, TextInput, Title,
} from '@mantine/core'
import { useForm } from '@mantine/form'
import { useMutation, useQuery } from '@tanstack/react-query'
import { type ReactNode, useEffect, useState } from 'react'
import { parseServerUrl } from '../../api/serverUrl'
import { register, session, signIn } from '../../api/session'
import icon from '../../icon.svg'
import { ErrorAlert } from '../../ui/ErrorAlert'
import { clearInvitation, invitationToken, useInvitation } from './invitations/invitationLink'
import { registrationQuery } from './queries'

/** The page to sign in or create an account, at this server or another one. */
export function LoginPage({ why }: { why: string | null }): ReactNode {
  const linked = useInvitation()
  const form = useForm({ initialValues: { email: '', password: '', name: '', invitation: linked ?? '', secret: '', server: session.base() } })
  const { invitation, secret, server } = form.values
  const [tab, setTab] = useState<string | null>(linked === null ? 'in' : 'new')
  const [otherServer, setOtherServer] = useState(linked === null && session.base() !== '')
  const [lastLinked, setLastLinked] = useState(linked)
  if (lastLinked !== linked) {
    setLastLinked(linked)
    if (linked !== null) {
      // An invitation link is for the server of this page.
      setTab('new')
      setOtherServer(false)
    }
  }
  useEffect(() => {
    form.setFieldValue('invitation', linked ?? '')
    // eslint-disable-next-line react-hooks/exhaustive-deps -- runs when another link was opened
  }, [linked])
  const parsed = parseServerUrl(server.trim())
  const base = otherServer ? (parsed ?? '') : ''
  const invalidServer = otherServer && parsed === null ? 'Enter an address such as https://hexa.example' : null
  const [persistenceWarning] = useState(session.persistenceWarning)
  const registration = useQuery({ ...registrationQuery(base), enabled: invalidServer === null })
  // Until the server has answered, the form is shown; without an answer, the server decides.
  const mode = registration.data?.mode ?? 'open'
  const awaitsAdmin = registration.data?.awaits_bootstrap ?? registration.isError
  const isOpen = mode !== 'closed' || awaitsAdmin
  const creating = tab === 'new' && isOpen
  const token = invitationToken(invitation)
  useEffect(() => {
    document.title = 'Sign in · Hexa'
  }, [])
  const enter = useMutation({
    mutationFn: ({ email, password, name }: typeof form.values) =>
      creating
        ? register(base, {
            email: email.trim(),
            password,
            ...(name.trim() === '' ? {} : { name: name.trim() }),
            ...(awaitsAdmin && secret.trim() !== '' ? { bootstrap_secret: secret.trim() } : token === '' ? {} : { invitation: token }),
          })
        : signIn(base, email.trim(), password),
    onSuccess: () => {
      if (creating) clearInvitation()
    },
  })
  const submit = form.onSubmit((values) => {
    if (invalidServer === null && !enter.isPending) enter.mutate(values)
  })
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
              {isOpen && (
                <Tabs value={tab} onChange={(next) => { setTab(next); enter.reset() }}>
                  <Tabs.List grow>
                    <Tabs.Tab value="in">Sign in</Tabs.Tab>
                    <Tabs.Tab value="new">New account</Tabs.Tab>
                  </Tabs.List>
                </Tabs>
              )}
              {!isOpen && linked !== null && (
                <Alert color="yellow" className="hx-warning" title="Registration is closed">
                  This server accepts no new accounts, not even with an invitation. Ask whoever runs it.
                </Alert>
              )}
              {creating && mode === 'invite' && token === '' && (
                <Alert color="blue" role="note" title="Invitation required">
                  New accounts need an invitation. Ask an admin of this server for a link, and open it.
                </Alert>
              )}
              <TextInput label="E-mail" type="email" autoComplete="username" required {...form.getInputProps('email')} autoFocus />
              <PasswordInput
                label="Password"
                autoComplete={creating ? 'new-password' : 'current-password'}
                description={creating ? '12 to 128 characters; a few unrelated words make a good password' : undefined}
                required
                {...form.getInputProps('password')}
                visibilityToggleButtonProps={{ 'aria-label': 'Show the password' }}
              />
              {creating && (
                <>
                  <TextInput label="Name" autoComplete="name" maxLength={64} {...form.getInputProps('name')} />
                  {(mode === 'invite' || token !== '') && (
                    <TextInput
                      label="Invitation"
                      description="The link that an admin gave you; it works once, within 7 days"
                      autoComplete="off"
                      spellCheck={false}
                      required={mode === 'invite' && !(awaitsAdmin && secret.trim() !== '')}
                      {...form.getInputProps('invitation')}
                    />
                  )}
                  {awaitsAdmin && (
                    <TextInput
                      label="Bootstrap secret"
                      description="Only for the first admin: the server printed it when it first started"
                      autoComplete="off"
                      {...form.getInputProps('secret')}
                    />
                  )}
                </>
              )}
              {otherServer && (
                <TextInput
                  label="Server"
                  placeholder="https://hexa.example"
                  {...form.getInputProps('server')}
                  error={server.trim() === '' ? null : invalidServer}
                  required
                  description="The server of this page must list it in DASHBOARD_CONNECT_SRC, and it must list this page in CORS_ALLOWED_ORIGINS"
                />
              )}
              {base !== '' && invalidServer === null && (
                <Alert color="yellow" className="hx-warning" title="Less secure">
                  For another server, the session is stored in this browser, where scripts of this page can read it.
                </Alert>
              )}
              {persistenceWarning !== null && (
                <Alert color="yellow" className="hx-warning" title="Session not saved">
                  {persistenceWarning}
                </Alert>
              )}
              {window.location.protocol === 'http:' && !window.isSecureContext && (
                <Alert color="yellow" className="hx-warning" title="Not encrypted">
                  Anyone on this network can read your password. Use https instead.
                </Alert>
              )}
              {enter.isError && <ErrorAlert thrown={enter.error} title={creating ? 'The account was not created' : 'You are not signed in'} />}
              <Button type="submit" loading={enter.isPending} fullWidth>
                {creating ? 'Create account' : 'Sign in'}
              </Button>
            </Stack>
          </form>
        </Paper>
        <Text size="sm" ta="center">
          <Anchor component="button" type="button" onClick={() => setOtherServer(!otherServer)} underline="always">
            {otherServer ? 'Use the server of this page' : 'Use another server'}
          </Anchor>
        </Text>
      </Stack>
    </Container>
  )
}

import { Button, Checkbox, Group, NumberInput, PasswordInput, SimpleGrid, Stack, TextInput } from '@mantine/core'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, type SubmitEvent, useState } from 'react'
import { api, unwrap } from '../../../api/client'
import { changePassword } from '../../../api/session'
import { idempotencyHeader } from '../../../api/idempotency'
import { withIdempotencyKey } from '../../../state/idempotentRequest'
import { useAdmin } from '../../../state/useSession'
import { Card } from '../../../ui/Card'
import { ConfirmDialog } from '../../../ui/ConfirmDialog'
import { ErrorAlert, notifySuccess } from '../../../ui/ErrorAlert'
import { LoadingRows } from '../../../ui/LoadingRows'
import { PageTitle } from '../../../ui/PageTitle'
import { SecretDialog } from '../../../ui/SecretDialog'
import { sessionsQuery, tokensQuery } from '../queries'
import { SessionList } from '../sessions/SessionList'
import { TokenList } from '../tokens/TokenList'

function Password(): ReactNode {
  const [current, setCurrent] = useState('')
  const [fresh, setFresh] = useState('')
  const client = useQueryClient()
  const save = useMutation({
    mutationFn: () => changePassword(current, fresh),
    onSuccess: () => {
      setCurrent('')
      setFresh('')
      notifySuccess('Password changed; all other sessions have ended')
      void client.invalidateQueries({ queryKey: ['sessions'] })
    },
  })
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    save.mutate()
  }
  return (
    <form onSubmit={submit}>
      <Stack gap="sm">
        <PasswordInput label="Current password" autoComplete="current-password" required value={current} onChange={(e) => setCurrent(e.currentTarget.value)} visibilityToggleButtonProps={{ 'aria-label': 'Show the current password' }} />
        <PasswordInput label="New password" description="12 to 128 characters" autoComplete="new-password" required value={fresh} onChange={(e) => setFresh(e.currentTarget.value)} visibilityToggleButtonProps={{ 'aria-label': 'Show the new password' }} />
        {save.isError && <ErrorAlert thrown={save.error} title="The password was not changed" />}
        <Group>
          <Button type="submit" size="xs" loading={save.isPending}>
            Change password
          </Button>
        </Group>
      </Stack>
    </form>
  )
}

function Sessions(): ReactNode {
  const query = useQuery(sessionsQuery)
  const [ending, setEnding] = useState(false)
  const client = useQueryClient()
  const refresh = () => client.invalidateQueries({ queryKey: ['sessions'] })
  const end = async (id: string) => {
    await unwrap(api().DELETE('/api/v1/auth/sessions/{id}', { params: { path: { id } } }))
    await refresh()
  }
  return (
    <Stack gap="sm">
      {query.isPending && <LoadingRows rows={2} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && <SessionList sessions={query.data.items} end={end} />}
      <Group>
        <Button size="xs" variant="default" onClick={() => setEnding(true)} disabled={(query.data?.items.length ?? 0) < 2}>
          End all others
        </Button>
      </Group>
      <ConfirmDialog opened={ending} close={() => setEnding(false)} title="End all other sessions" action="End sessions" danger run={async () => { await unwrap(api().DELETE('/api/v1/auth/sessions')); await refresh() }}>
        Every other browser, app and command line is signed out. Access tokens stay valid.
      </ConfirmDialog>
    </Stack>
  )
}

const SCOPES = ['devices:read', 'devices:write', 'relays:write', 'preferences'] as const

function Tokens({ admin }: { admin: boolean }): ReactNode {
  const query = useQuery(tokensQuery)
  const [name, setName] = useState('')
  const [scopes, setScopes] = useState<string[]>(['devices:read'])
  const [days, setDays] = useState<number | string>(90)
  const [secret, setSecret] = useState<string | null>(null)
  const client = useQueryClient()
  const refresh = () => client.invalidateQueries({ queryKey: ['tokens'] })
  const revoke = async (id: string) => {
    await unwrap(api().DELETE('/api/v1/auth/tokens/{id}', { params: { path: { id } } }))
    await refresh()
  }
  const create = useMutation({
    mutationFn: () => {
      const body = { name: name.trim(), scopes: scopes as never, ...(typeof days === 'number' ? { expires_in_days: days } : {}) }
      return withIdempotencyKey(['token', body], (key) => unwrap(api().POST('/api/v1/auth/tokens', { params: { header: idempotencyHeader(key) }, body })))
    },
    onSuccess: (token) => {
      setSecret(token.token)
      setName('')
      void refresh()
    },
  })
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    create.mutate()
  }
  return (
    <Stack gap="sm">
      {query.isPending && <LoadingRows rows={2} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && <TokenList tokens={query.data.items} revoke={revoke} />}
      <form onSubmit={submit}>
        <Stack gap="xs">
          <Group grow align="flex-end">
            <TextInput label="New token" placeholder="its purpose" required maxLength={64} value={name} onChange={(e) => setName(e.currentTarget.value)} />
            <NumberInput label="Valid for (days)" min={1} max={3650} allowDecimal={false} value={days} onChange={setDays} placeholder="no limit" />
          </Group>
          <Checkbox.Group label="Permissions" value={scopes} onChange={setScopes}>
            <Group gap="sm" mt={4}>
              {[...SCOPES, ...(admin ? (['admin:*'] as const) : [])].map((scope) => (
                <Checkbox key={scope} value={scope} label={scope} size="xs" />
              ))}
            </Group>
          </Checkbox.Group>
          {create.isError && <ErrorAlert thrown={create.error} title="The token was not created" />}
          <Group>
            <Button type="submit" size="xs" loading={create.isPending} disabled={scopes.length === 0}>
              Create token
            </Button>
          </Group>
        </Stack>
      </form>
      <SecretDialog title="New access token" value={secret} close={() => setSecret(null)}>
        It is shown only once. Copy it to where the program reads it.
      </SecretDialog>
    </Stack>
  )
}

/** The page of the caller's own account. */
export function AccountPage(): ReactNode {
  const admin = useAdmin()
  return (
    <>
      <PageTitle title="Account" />
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="md">
        <Stack>
          <Card id="account.sessions" title="Sessions">
            <Sessions />
          </Card>
          <Card id="account.password" title="Password">
            <Password />
          </Card>
        </Stack>
        <Card id="account.tokens" title="Access tokens">
          <Tokens admin={admin} />
        </Card>
      </SimpleGrid>
    </>
  )
}

import { Button, Checkbox, Group, NumberInput, PasswordInput, SimpleGrid, Stack, TextInput } from '@mantine/core'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, type SubmitEvent, useState } from 'react'
import { api, ask } from '../../../api/client'
import { sessionsQuery, tokensQuery } from '../../../api/queries'
import { changePassword } from '../../../api/session'
import { keyed, once } from '../../../state/idempotentRequest'
import { useAdmin } from '../../../state/useSession'
import { Card } from '../../../ui/Card'
import { Confirm } from '../../../ui/ConfirmDialog'
import { notifyDone, Problem } from '../../../ui/ErrorAlert'
import { Secret } from '../../../ui/SecretDialog'
import { SessionList } from '../sessions/SessionList'
import { TokenList } from '../tokens/TokenList'
import { PageTitle, Waiting } from '../../../ui/bits'

function Password(): ReactNode {
  const [current, setCurrent] = useState('')
  const [fresh, setFresh] = useState('')
  const client = useQueryClient()
  const save = useMutation({
    mutationFn: () => changePassword(current, fresh),
    onSuccess: () => {
      setCurrent('')
      setFresh('')
      notifyDone('The password is changed; every other session has ended')
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
        {save.isError && <Problem thrown={save.error} title="The password is as it was" />}
        <Group>
          <Button type="submit" size="xs" loading={save.isPending}>
            Change the password
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
  const again = () => client.invalidateQueries({ queryKey: ['sessions'] })
  const end = async (id: string) => {
    await ask(api().DELETE('/api/v1/auth/sessions/{id}', { params: { path: { id } } }))
    await again()
  }
  return (
    <Stack gap="sm">
      {query.isPending && <Waiting rows={2} />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && <SessionList sessions={query.data.items} end={end} />}
      <Group>
        <Button size="xs" variant="default" onClick={() => setEnding(true)} disabled={(query.data?.items.length ?? 0) < 2}>
          End all others
        </Button>
      </Group>
      <Confirm opened={ending} close={() => setEnding(false)} title="End all other sessions" action="End them" danger run={async () => { await ask(api().DELETE('/api/v1/auth/sessions')); await again() }}>
        Every browser, app and command line but this one is signed out. Access tokens stay.
      </Confirm>
    </Stack>
  )
}

const SCOPES = ['devices:read', 'devices:write', 'relays:write', 'preferences'] as const

function Tokens({ admin }: { admin: boolean }): ReactNode {
  const query = useQuery(tokensQuery)
  const [name, setName] = useState('')
  const [scopes, setScopes] = useState<string[]>(['devices:read'])
  const [days, setDays] = useState<number | string>(90)
  const [made, setMade] = useState<string | null>(null)
  const client = useQueryClient()
  const again = () => client.invalidateQueries({ queryKey: ['tokens'] })
  const revoke = async (id: string) => {
    await ask(api().DELETE('/api/v1/auth/tokens/{id}', { params: { path: { id } } }))
    await again()
  }
  const make = useMutation({
    mutationFn: () => {
      const body = { name: name.trim(), scopes: scopes as never, ...(typeof days === 'number' ? { expires_in_days: days } : {}) }
      return once(['token', body], (key) => ask(api().POST('/api/v1/auth/tokens', { params: { header: keyed(key) }, body })))
    },
    onSuccess: (token) => {
      setMade(token.token)
      setName('')
      void again()
    },
  })
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    make.mutate()
  }
  return (
    <Stack gap="sm">
      {query.isPending && <Waiting rows={2} />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && <TokenList tokens={query.data.items} revoke={revoke} />}
      <form onSubmit={submit}>
        <Stack gap="xs">
          <Group grow align="flex-end">
            <TextInput label="New token" placeholder="what it is for" required maxLength={64} value={name} onChange={(e) => setName(e.currentTarget.value)} />
            <NumberInput label="Days" min={1} max={3650} allowDecimal={false} value={days} onChange={setDays} placeholder="for good" />
          </Group>
          <Checkbox.Group label="May" value={scopes} onChange={setScopes}>
            <Group gap="sm" mt={4}>
              {[...SCOPES, ...(admin ? (['admin:*'] as const) : [])].map((scope) => (
                <Checkbox key={scope} value={scope} label={scope} size="xs" />
              ))}
            </Group>
          </Checkbox.Group>
          {make.isError && <Problem thrown={make.error} title="No token was made" />}
          <Group>
            <Button type="submit" size="xs" loading={make.isPending} disabled={scopes.length === 0}>
              Make a token
            </Button>
          </Group>
        </Stack>
      </form>
      <Secret title="The new token" value={made} close={() => setMade(null)}>
        It is shown once. Put it where the program reads it.
      </Secret>
    </Stack>
  )
}

/** The caller's own account. */
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

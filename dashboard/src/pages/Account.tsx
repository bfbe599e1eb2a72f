import { Badge, Button, Checkbox, Group, NumberInput, PasswordInput, SimpleGrid, Stack, Text, TextInput } from '@mantine/core'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { useRouteContext } from '@tanstack/react-router'
import { type ReactNode, type SubmitEvent, useState } from 'react'
import { api, ask, type Schemas } from '../api/client'
import { sessionsQuery, tokensQuery } from '../api/queries'
import { changePassword } from '../api/session'
import { Card } from '../ui/Card'
import { Confirm } from '../ui/Confirm'
import { notifyDone, Problem } from '../ui/Problem'
import { Secret } from '../ui/Secret'
import { Empty, PageTitle, Waiting, When } from '../ui/bits'

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

const BROWSERS: [RegExp, string][] = [
  [/Edg\//, 'Edge'],
  [/OPR\//, 'Opera'],
  [/Firefox\//, 'Firefox'],
  [/Chrom(e|ium)\//, 'Chrome'],
  [/Safari\//, 'Safari'],
]
const SYSTEMS: [RegExp, string][] = [
  [/Android/, 'Android'],
  [/iPhone|iPad/, 'iOS'],
  [/Windows/, 'Windows'],
  [/Mac OS X/, 'macOS'],
  [/Linux/, 'Linux'],
]

/** What a browser calls itself, for people; anything else as it is. */
export function program(agent: string | null | undefined): string {
  if (agent == null || agent === '') return 'an unnamed program'
  const name = (list: [RegExp, string][]) => list.find(([pattern]) => pattern.test(agent))?.[1]
  const browser = agent.startsWith('Mozilla/') ? name(BROWSERS) : undefined
  return browser === undefined ? agent : `${browser} on ${name(SYSTEMS) ?? 'another system'}`
}

function Sessions(): ReactNode {
  const query = useQuery(sessionsQuery)
  const [ending, setEnding] = useState(false)
  const client = useQueryClient()
  const again = () => client.invalidateQueries({ queryKey: ['sessions'] })
  const end = useMutation({
    mutationFn: (id: string) => ask(api().DELETE('/api/v1/auth/sessions/{id}', { params: { path: { id } } })),
    onSuccess: again,
  })
  return (
    <Stack gap="sm">
      {query.isPending && <Waiting rows={2} />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} />}
      {end.isError && <Problem thrown={end.error} />}
      {query.data?.items.map((session) => (
        <Group key={session.id} justify="space-between" wrap="nowrap">
          <Stack gap={0} miw={0}>
            <Text size="sm" truncate title={session.user_agent ?? ''}>
              {program(session.user_agent)}
            </Text>
            <Text size="xs" c="dimmed">
              {session.ip ?? 'unknown address'}, used <When at={session.last_used_at} />
            </Text>
          </Stack>
          {session.current ? (
            <Badge variant="light" className="hx-badge hx-online" style={{ flexShrink: 0 }}>
              this one
            </Badge>
          ) : (
            <Button size="compact-xs" variant="default" onClick={() => end.mutate(session.id)} loading={end.isPending && end.variables === session.id}>
              End
            </Button>
          )}
        </Group>
      ))}
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
  const [ending, setEnding] = useState<Schemas['TokenBody'] | null>(null)
  const client = useQueryClient()
  const again = () => client.invalidateQueries({ queryKey: ['tokens'] })
  const make = useMutation({
    mutationFn: () =>
      ask(
        api().POST('/api/v1/auth/tokens', {
          body: { name: name.trim(), scopes: scopes as never, ...(typeof days === 'number' ? { expires_in_days: days } : {}) },
        }),
      ),
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
      {query.data?.items.length === 0 && <Empty title="No tokens">For scripts and programs: each has only the rights that you give it, and can be taken back alone.</Empty>}
      {query.data?.items.map((token) => (
        <Group key={token.id} justify="space-between" wrap="nowrap">
          <Stack gap={0} miw={0}>
            <Text size="sm" truncate>
              {token.name}
            </Text>
            <Text size="xs" c="dimmed">
              {token.scopes.join(', ')} · ends <When at={token.expires_at} /> · used <When at={token.last_used_at} />
            </Text>
          </Stack>
          <Button size="compact-xs" variant="default" onClick={() => setEnding(token)}>
            Revoke
          </Button>
        </Group>
      ))}
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
      <Confirm
        opened={ending !== null}
        close={() => setEnding(null)}
        title={`Revoke ${ending?.name ?? ''}`}
        action="Revoke"
        danger
        run={async () => {
          await ask(api().DELETE('/api/v1/auth/tokens/{id}', { params: { path: { id: ending?.id ?? '' } } }))
          await again()
        }}
      >
        Programs that use it are refused from the next request on.
      </Confirm>
    </Stack>
  )
}

/** The caller's own account. */
export function AccountPage(): ReactNode {
  const { admin } = useRouteContext({ from: '__root__' })
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

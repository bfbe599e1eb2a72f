import { Badge, Button, Group, Stack, Text } from '@mantine/core'
import { useMutation } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import type { Schemas } from '../../../api/client'
import { Problem } from '../../../ui/ErrorAlert'
import { Empty, When } from '../../../ui/bits'

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

interface SessionListProps {
  sessions: readonly Schemas['SessionBody'][]
  end: (id: string) => Promise<unknown>
}

/** Where an account is signed in. */
export function SessionList({ sessions, end }: SessionListProps): ReactNode {
  const ending = useMutation({ mutationFn: end })
  if (sessions.length === 0) return <Empty title="No sessions">Signed in nowhere.</Empty>
  return (
    <Stack gap="sm">
      {ending.isError && <Problem thrown={ending.error} title="The session was not ended" />}
      {sessions.map((session) => (
        <Group key={session.id} justify="space-between" wrap="nowrap" data-session={session.id}>
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
            <Button size="compact-xs" variant="default" onClick={() => ending.mutate(session.id)} loading={ending.isPending && ending.variables === session.id}>
              End
            </Button>
          )}
        </Group>
      ))}
    </Stack>
  )
}

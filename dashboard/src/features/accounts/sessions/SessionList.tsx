import { Badge, Button, Group, Stack, Text } from '@mantine/core'
import { useMutation } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import type { Schemas } from '../../../api/client'
import { EmptyState } from '../../../ui/EmptyState'
import { ErrorAlert } from '../../../ui/ErrorAlert'
import { RelativeTime } from '../../../ui/RelativeTime'
import { clientName } from './clientName'

interface SessionListProps {
  sessions: readonly Schemas['SessionBody'][]
  end: (id: string) => Promise<unknown>
}

/** The sessions of an account. */
export function SessionList({ sessions, end }: SessionListProps): ReactNode {
  const ending = useMutation({ mutationFn: end })
  if (sessions.length === 0) return <EmptyState title="No sessions">This account is not signed in anywhere.</EmptyState>
  return (
    <Stack gap="sm">
      {ending.isError && <ErrorAlert thrown={ending.error} title="The session was not ended" />}
      {sessions.map((session) => (
        <Group key={session.id} justify="space-between" wrap="nowrap" data-session={session.id}>
          <Stack gap={0} miw={0}>
            <Text size="sm" truncate title={session.user_agent ?? ''}>
              {clientName(session.user_agent)}
            </Text>
            <Text size="xs" c="dimmed">
              {session.ip ?? 'unknown address'}, last used <RelativeTime at={session.last_used_at} />
            </Text>
          </Stack>
          {session.current ? (
            <Badge variant="light" className="hx-badge hx-online" style={{ flexShrink: 0 }}>
              this session
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

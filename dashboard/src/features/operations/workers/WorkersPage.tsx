import { Badge, Group, Paper, Stack, Text } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import type { Schemas } from '../../../api/client'
import { ErrorAlert } from '../../../ui/ErrorAlert'
import { LoadingRows } from '../../../ui/LoadingRows'
import { PageTitle } from '../../../ui/PageTitle'
import { RelativeTime } from '../../../ui/RelativeTime'
import { workersQuery } from '../queries'
import { describePeriod, describeState, isUnwell } from './describeWorker'

type Worker = Schemas['WorkerBody']

function WorkerRow({ worker }: { worker: Worker }): ReactNode {
  return (
    <Group role="listitem" data-worker={worker.name} justify="space-between" align="flex-start" wrap="nowrap" p="sm" gap="sm" className="hx-line">
      <div style={{ minWidth: 0 }}>
        <Text size="sm" fw={500}>
          {worker.name}
        </Text>
        <Text size="sm" c="dimmed">
          {worker.purpose}
        </Text>
        {worker.last_error !== null && (
          <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
            Failed <RelativeTime at={worker.last_error.at} />: {worker.last_error.message}
          </Text>
        )}
      </div>
      <Stack gap={2} align="flex-end" style={{ whiteSpace: 'nowrap' }}>
        <Badge color={isUnwell(worker) ? 'red' : 'gray'} variant="light">
          {describeState(worker.state)}
        </Badge>
        <Text size="xs" c="dimmed">
          {describePeriod(worker.period_ms)}
        </Text>
        <Text size="xs" c="dimmed">
          {worker.last_run_at === null ? 'has not run yet' : <RelativeTime at={worker.last_run_at} />}
        </Text>
      </Stack>
    </Group>
  )
}

/** What the server does beside requests, each with its last run and its last error. */
export function WorkersPage(): ReactNode {
  const query = useQuery(workersQuery)
  return (
    <>
      <PageTitle title="Background work" />
      {query.isPending && <LoadingRows rows={6} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} title="The background work cannot be shown" />}
      {query.data && (
        <Paper withBorder>
          <Stack gap={0} role="list">
            {query.data.items.map((worker) => (
              <WorkerRow key={worker.name} worker={worker} />
            ))}
          </Stack>
        </Paper>
      )}
    </>
  )
}

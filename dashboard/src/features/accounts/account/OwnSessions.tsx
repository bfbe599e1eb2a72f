import { Button, Group, Stack } from '@mantine/core'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, useState } from 'react'
import { api, unwrap } from '../../../api/client'
import { ConfirmDialog } from '../../../ui/ConfirmDialog'
import { ErrorAlert } from '../../../ui/ErrorAlert'
import { LoadingRows } from '../../../ui/LoadingRows'
import { sessionsQuery } from '../queries'
import { SessionList } from '../sessions/SessionList'

/** The caller's own sessions. */
export function OwnSessions(): ReactNode {
  const query = useQuery(sessionsQuery)
  const [confirming, setConfirming] = useState(false)
  const client = useQueryClient()
  const refresh = () => client.invalidateQueries({ queryKey: ['sessions'] })
  const end = async (id: string) => {
    await unwrap(api().DELETE('/api/v1/auth/sessions/{id}', { params: { path: { id } } }))
    await refresh()
  }
  const endOthers = async () => {
    await unwrap(api().DELETE('/api/v1/auth/sessions'))
    await refresh()
  }
  return (
    <Stack gap="sm">
      {query.isPending && <LoadingRows rows={2} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && <SessionList sessions={query.data.items} end={end} />}
      <Group>
        <Button size="xs" variant="default" onClick={() => setConfirming(true)} disabled={(query.data?.items.length ?? 0) < 2}>
          End all others
        </Button>
      </Group>
      <ConfirmDialog opened={confirming} close={() => setConfirming(false)} title="End all other sessions" action="End sessions" danger run={endOthers}>
        Every other browser, app and command line is signed out. Access tokens stay valid.
      </ConfirmDialog>
    </Stack>
  )
}

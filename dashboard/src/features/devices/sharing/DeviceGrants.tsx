import { Badge, Button, Group, Stack, Text } from '@mantine/core'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, useState } from 'react'
import { api, type Device, type Grant, unwrap } from '../../../api/client'
import { ConfirmDialog } from '../../../ui/ConfirmDialog'
import { EmptyState } from '../../../ui/EmptyState'
import { ErrorAlert } from '../../../ui/ErrorAlert'
import { LoadingRows } from '../../../ui/LoadingRows'
import { RelativeTime } from '../../../ui/RelativeTime'
import { grantsQuery } from '../queries'
import { ShareDevice } from './ShareDevice'

/** The accounts that a device is shared with: owners share it and end sharing, others may leave. */
export function DeviceGrants({ device }: { device: Device }): ReactNode {
  const query = useQuery(grantsQuery(device.uid))
  const [ending, setEnding] = useState<Grant | null>(null)
  const client = useQueryClient()
  const owner = device.access === 'owner' || device.access === 'admin'
  const grants = query.data?.items ?? []
  const describe = (grant: Grant) =>
    [
      grant.access === 'control' ? 'can switch' : 'view only',
      grant.relays == null ? 'whole device' : `relays ${grant.relays.join(', ')}`,
      grant.uses_left == null ? '' : `${grant.uses_left} of ${grant.max_uses ?? 0} commands left`,
    ]
      .filter((part) => part !== '')
      .join(' · ')
  return (
    <Stack>
      {query.isPending && <LoadingRows rows={2} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} />}
      {query.isSuccess && grants.length === 0 && (
        <EmptyState title="Not shared">Share it with family, guests or a caretaker, for a limited time or number of commands.</EmptyState>
      )}
      {grants.map((grant) => (
        <Group key={grant.id} justify="space-between" wrap="nowrap">
          <Stack gap={0} miw={0}>
            <Text size="sm" truncate>
              {grant.user.name ?? grant.user.email}
            </Text>
            <Text size="xs" c="dimmed">
              {describe(grant)}
            </Text>
            {grant.expires_at != null && (
              <Badge size="sm" variant="light" color="gray" className="hx-badge">
                expires <RelativeTime at={grant.expires_at} />
              </Badge>
            )}
          </Stack>
          <Button size="compact-xs" variant="default" onClick={() => setEnding(grant)}>
            {owner ? 'End' : 'Leave'}
          </Button>
        </Group>
      ))}
      {owner && device.claimed_at != null && <ShareDevice device={device} />}
      <ConfirmDialog
        opened={ending !== null}
        close={() => setEnding(null)}
        title={owner ? 'End sharing' : 'Leave this device'}
        action={owner ? 'End sharing' : 'Leave'}
        danger
        run={async () => {
          await unwrap(api().DELETE('/api/v1/devices/{uid}/grants/{id}', { params: { path: { uid: device.uid, id: ending?.id ?? '' } } }))
          await client.invalidateQueries({ queryKey: ['grants', device.uid] })
        }}
      >
        {owner ? `${ending?.user.email ?? ''} loses access immediately.` : 'You lose access to this device immediately.'}
      </ConfirmDialog>
    </Stack>
  )
}

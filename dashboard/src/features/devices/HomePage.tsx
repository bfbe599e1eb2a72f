import { Button, Group, Paper, SimpleGrid, Stack, Text } from '@mantine/core'
import { useDisclosure } from '@mantine/hooks'
import { useInfiniteQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import type { ReactNode } from 'react'
import type { Device } from '../../api/client'
import { useDeviceListChanges, useLiveUpdatesForAll, usePresence } from '../../state/live'
import { EmptyState } from '../../ui/EmptyState'
import { ErrorAlert } from '../../ui/ErrorAlert'
import { lazyComponent } from '../../ui/lazyComponent'
import { LoadingRows } from '../../ui/LoadingRows'
import { PageTitle } from '../../ui/PageTitle'
import { deviceName, isNamed, secondaryUid, uniqueDeviceName } from './deviceName'
import { PresenceBadge } from './PresenceBadge'
import { devicesQuery, OWN_DEVICES } from './queries'
import { RelayToggle } from './RelayToggle'

const Claim = lazyComponent(() => import('./ClaimDevice').then((m) => m.ClaimDevice))

/** The relays that a tile shows; the others are on the device's own page. */
const MAX_RELAYS = 8
/** Only a new answer shows that a device became stale. */
const REFRESH_MS = 30_000

function Tile({ device }: { device: Device }): ReactNode {
  const presence = usePresence(device)
  const online = presence !== 'offline'
  const uid = secondaryUid(device)
  const shown = device.relays.slice(0, MAX_RELAYS)
  return (
    <Paper withBorder p="md" component="section" aria-label={uniqueDeviceName(device)} data-uid={device.uid}>
      <Group justify="space-between" wrap="nowrap" mb="xs">
        <Stack gap={0} miw={0}>
          <Text component="h2" m={0} size="md" fw={600} truncate>
            <Link to="/devices/$uid" params={{ uid: device.uid }} className="hx-row">
              {deviceName(device)}
            </Link>
          </Text>
          {!isNamed(device) && uid !== null && (
            <Text size="xs" c="dimmed" truncate>
              {uid}
            </Text>
          )}
        </Stack>
        <PresenceBadge presence={presence} />
      </Group>
      <Stack gap="xs">
        {shown.map((relay) => (
          <RelayToggle key={relay.index} device={device} index={relay.index} disabled={!online || device.access === 'read'} />
        ))}
        {device.relays.length > MAX_RELAYS && (
          <Text size="xs" c="dimmed">
            and {device.relays.length - MAX_RELAYS} more
          </Text>
        )}
        {device.access === 'read' && (
          <Text size="xs" c="dimmed">
            Shared with you: view only
          </Text>
        )}
      </Stack>
    </Paper>
  )
}

/** The caller's own and shared devices, with their switches. */
export function HomePage(): ReactNode {
  const [claiming, claim] = useDisclosure()
  const client = useQueryClient()
  const query = useInfiniteQuery({ ...devicesQuery(OWN_DEVICES), refetchInterval: REFRESH_MS })
  useLiveUpdatesForAll()
  useDeviceListChanges(() => void client.invalidateQueries({ queryKey: ['devices'] }, { cancelRefetch: false }))
  const devices = query.data?.pages.flatMap((page) => page.items) ?? []
  return (
    <>
      <PageTitle title="Home">
        <Button variant={devices.length === 0 ? 'filled' : 'default'} onClick={claim.open}>
          Claim a device
        </Button>
      </PageTitle>
      {query.isPending && <LoadingRows />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} title="Your devices cannot be shown" />}
      {query.isSuccess && devices.length === 0 && (
        <Paper withBorder>
          <EmptyState title="No devices yet">
            Power a device, find the claim code on its label, and enter it under “Claim a device”. Devices that others share with you appear
            here automatically.
          </EmptyState>
        </Paper>
      )}
      <SimpleGrid cols={{ base: 1, sm: 2, lg: 3 }} spacing="md">
        {devices.map((device) => (
          <Tile key={device.uid} device={device} />
        ))}
      </SimpleGrid>
      {query.hasNextPage && (
        <Group justify="center" mt="md">
          <Button variant="default" loading={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
            Show more devices
          </Button>
        </Group>
      )}
      {claiming && (
        <Claim opened close={claim.close} />
      )}
    </>
  )
}

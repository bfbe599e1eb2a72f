import { Button, Group, Paper, SimpleGrid, Stack, Text } from '@mantine/core'
import { useDisclosure } from '@mantine/hooks'
import { useInfiniteQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { lazy, type ReactNode, Suspense, useCallback } from 'react'
import type { Device } from '../api/client'
import { devicesQuery } from '../api/queries'
import type { Frame } from '../api/socket'
import { presenceNow, useFrames, useOnline, useWatchAll } from '../state/live'
import { RelayToggle } from '../ui/Relay'
import { Empty, PageTitle, PresenceBadge, Waiting } from '../ui/bits'
import { Problem } from '../ui/Problem'

const Claim = lazy(() => import('../ui/Claim').then((m) => ({ default: m.Claim })))

/** More relays than these are on the device's own page. */
const RELAYS = 8

function Tile({ device }: { device: Device }): ReactNode {
  const heard = useOnline(device.uid)
  const online = heard ?? device.online
  const shown = device.relays.slice(0, RELAYS)
  return (
    <Paper withBorder p="md" component="section" aria-label={device.name ?? device.uid} data-uid={device.uid}>
      <Group justify="space-between" wrap="nowrap" mb="xs">
        <Text component="h2" m={0} size="md" fw={600} truncate>
          <Link to="/devices/$uid" params={{ uid: device.uid }} className="hx-row">
            {device.name ?? device.uid}
          </Link>
        </Text>
        <PresenceBadge presence={presenceNow(device, heard)} />
      </Group>
      <Stack gap="xs">
        {shown.map((relay) => (
          <RelayToggle key={relay.index} device={device} index={relay.index} disabled={!online || device.access === 'read'} />
        ))}
        {device.relays.length > RELAYS && (
          <Text size="xs" c="dimmed">
            and {device.relays.length - RELAYS} more
          </Text>
        )}
        {device.access === 'read' && (
          <Text size="xs" c="dimmed">
            Shared with you to look at
          </Text>
        )}
      </Stack>
    </Paper>
  )
}

/** Everything of one's own, ready to be switched. */
export function Home(): ReactNode {
  const [claiming, claim] = useDisclosure()
  const client = useQueryClient()
  const query = useInfiniteQuery(devicesQuery({ all: false, search: '', online: '', device_class: '', claimed: '' }))
  useWatchAll(true)
  useFrames(
    useCallback(
      (frame: Frame) => {
        if (frame.type.startsWith('device_') && ['device_added', 'device_removed', 'device_updated'].includes(frame.type))
          void client.invalidateQueries({ queryKey: ['devices'] })
      },
      [client],
    ),
  )
  const devices = query.data?.pages.flatMap((page) => page.items) ?? []
  return (
    <>
      <PageTitle title="Home">
        <Button variant={devices.length === 0 ? 'filled' : 'default'} onClick={claim.open}>
          Claim a device
        </Button>
      </PageTitle>
      {query.isPending && <Waiting />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} title="Your devices cannot be shown" />}
      {query.isSuccess && devices.length === 0 && (
        <Paper withBorder>
          <Empty title="Nothing to switch yet">
            Plug a device in, find the claim code on its label, and enter it under “Claim a device”. Devices that others share with you
            appear here by themselves.
          </Empty>
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
        <Suspense>
          <Claim opened close={claim.close} />
        </Suspense>
      )}
    </>
  )
}

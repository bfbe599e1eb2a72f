import { Button, Group, Paper, SimpleGrid, Stack, Text } from '@mantine/core'
import { useDisclosure } from '@mantine/hooks'
import { useInfiniteQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import type { ReactNode } from 'react'
import type { Device } from '../../api/client'
import { devicesQuery, OWN_DEVICES } from '../../api/queries'
import { usePresence, useStructure, useWatchAll } from '../../state/live'
import { RelayToggle } from './RelayToggle'
import { Empty, PageTitle, PresenceBadge, Waiting } from '../../ui/bits'
import { later } from '../../ui/lazyComponent'
import { Problem } from '../../ui/ErrorAlert'

const Claim = later(() => import('./ClaimDevice').then((m) => m.Claim))

/** More relays than these are on the device's own page. */
const RELAYS = 8
/** Who was silent for long is seen so. */
const AGAIN_MS = 30_000

function Tile({ device }: { device: Device }): ReactNode {
  const presence = usePresence(device)
  const online = presence !== 'offline'
  const shown = device.relays.slice(0, RELAYS)
  return (
    <Paper withBorder p="md" component="section" aria-label={device.name ?? device.uid} data-uid={device.uid}>
      <Group justify="space-between" wrap="nowrap" mb="xs">
        <Text component="h2" m={0} size="md" fw={600} truncate>
          <Link to="/devices/$uid" params={{ uid: device.uid }} className="hx-row">
            {device.name ?? device.uid}
          </Link>
        </Text>
        <PresenceBadge presence={presence} />
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
  const query = useInfiniteQuery({ ...devicesQuery(OWN_DEVICES), refetchInterval: AGAIN_MS })
  useWatchAll(true)
  useStructure(() => void client.invalidateQueries({ queryKey: ['devices'] }, { cancelRefetch: false }))
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
        <Claim opened close={claim.close} />
      )}
    </>
  )
}

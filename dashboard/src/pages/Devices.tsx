import { Box, Button, Group, Paper, Select, Switch, Text, TextInput, VisuallyHidden } from '@mantine/core'
import { useDebouncedValue, useDisclosure } from '@mantine/hooks'
import { IconPlus, IconSearch } from '@tabler/icons-react'
import { keepPreviousData, useInfiniteQuery, useQueryClient } from '@tanstack/react-query'
import { Link, useRouteContext } from '@tanstack/react-router'
import { useVirtualizer } from '@tanstack/react-virtual'
import { lazy, type ReactNode, Suspense, useCallback, useEffect, useMemo, useRef } from 'react'
import type { Device } from '../api/client'
import { devicesQuery } from '../api/queries'
import type { Frame } from '../api/socket'
import { presenceNow, relayNow, useFrames, useLive, useOnline, useWatch } from '../state/live'
import { change, usePreferences } from '../state/preferences'
import { counted, Empty, PageTitle, PresenceBadge, Waiting, When } from '../ui/bits'
import { Problem } from '../ui/Problem'

const Claim = lazy(() => import('../ui/Claim').then((m) => ({ default: m.Claim })))

const CLASSES = ['relay_controller', 'ir_hub', 'sensor_hub', 'hybrid']

/** Lamps of a row; beyond so many only their number is said. */
const LAMPS = 6

function Lamps({ device }: { device: Device }): ReactNode {
  const live = useLive(device.uid)
  const states = device.relays.map((r) => relayNow(device, live.relays.get(r.index), r.index).state)
  const on = states.filter((s) => s === true).length
  return (
    <Group gap={3} wrap="nowrap" role="img" aria-label={`${on} of ${states.length} relays on`}>
      {states.slice(0, LAMPS).map((state, n) => (
        <Box
          key={n}
          w={9}
          h={9}
          visibleFrom="xs"
          style={{ borderRadius: 9, border: '1px solid var(--hx-on)', background: state === true ? 'var(--hx-on)' : 'transparent', opacity: state === null ? 0.4 : 1 }}
        />
      ))}
      <Text size="xs" c="dimmed" className="hx-number">
        {on}/{states.length}
      </Text>
    </Group>
  )
}

function Row({ device, dense }: { device: Device; dense: boolean }): ReactNode {
  const heard = useOnline(device.uid)
  return (
    <Group
      renderRoot={(props) => <Link to="/devices/$uid" params={{ uid: device.uid }} {...props} />}
      className="hx-row"
      data-uid={device.uid}
      wrap="nowrap"
      gap="sm"
      px="sm"
      h="100%"
      style={{ borderBottom: '1px solid var(--mantine-color-default-border)' }}
    >
      <Box flex="1 1 0" miw={0}>
        <Text size="sm" fw={500} truncate>
          {device.name ?? device.uid}
        </Text>
        {!dense && (
          <Text size="xs" c="dimmed" truncate>
            {device.name === null ? device.device_class : device.uid}
          </Text>
        )}
      </Box>
      <Box w={{ base: 72, xs: 92 }} style={{ flexShrink: 0 }}>
        <PresenceBadge presence={presenceNow(device, heard)} />
      </Box>
      <Box w={{ base: 64, xs: 130 }} style={{ flexShrink: 0 }}>
        <Lamps device={device} />
      </Box>
      <Box w={130} visibleFrom="md" style={{ flexShrink: 0 }}>
        <Text size="xs" c="dimmed" truncate>
          {device.firmware_version ?? device.model ?? ''}
        </Text>
      </Box>
      <Box w={120} visibleFrom="lg" fz="sm" style={{ flexShrink: 0 }}>
        <When at={device.last_seen_at} />
      </Box>
    </Group>
  )
}

/** The fleet: paged by the server, drawn as far as it is seen. */
export function Devices(): ReactNode {
  const { admin } = useRouteContext({ from: '__root__' })
  const view = usePreferences().device_view_state
  const dense = usePreferences().dashboard_settings.density === 'compact'
  const [claiming, claim] = useDisclosure()
  const client = useQueryClient()
  const all = admin && view.scope !== 'own'
  const [search] = useDebouncedValue(view.search, 250)
  const online = view.online === 'true' || view.online === 'false' ? view.online : ''
  const device_class = CLASSES.includes(view.device_class) ? view.device_class : ''
  const query = useInfiniteQuery({
    ...devicesQuery({ all, search: search.trim(), online, device_class, claimed: '' }),
    placeholderData: keepPreviousData,
  })
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = query
  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.items) ?? [], [query.data])

  const scroller = useRef<HTMLDivElement>(null)
  const height = dense ? 36 : 56
  // eslint-disable-next-line react-hooks/incompatible-library -- its functions are used in this component only
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    overscan: 10,
  })
  const seen = virtual.getVirtualItems()
  const last = seen.at(-1)?.index ?? 0
  useEffect(() => virtual.measure(), [height, virtual])
  useEffect(() => {
    // Pages without a row that fits happen (a filter by what only the server knows).
    if (hasNextPage && !isFetchingNextPage && !query.isError && last >= rows.length - 20) void fetchNextPage()
  }, [hasNextPage, isFetchingNextPage, fetchNextPage, last, rows.length, query.isError])

  useWatch(useMemo(() => seen.map((item) => rows[item.index]?.uid ?? '').filter((uid) => uid !== ''), [seen, rows]))
  useFrames(
    useCallback(
      (frame: Frame) => {
        if (frame.type === 'device_added' || frame.type === 'device_removed') void client.invalidateQueries({ queryKey: ['devices'] })
      },
      [client],
    ),
  )

  const filtered = search !== '' || online !== '' || device_class !== ''
  const update = (members: Partial<typeof view>) => change('device_view_state', members)
  return (
    <>
      <PageTitle title="Devices">
        <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={claim.open}>
          Claim a device
        </Button>
      </PageTitle>
      <Group mb="sm" gap="xs" role="search">
        <TextInput
          leftSection={<IconSearch size={16} aria-hidden />}
          placeholder="Name, relay, uid, serial, model"
          aria-label="Search devices"
          value={view.search}
          maxLength={128}
          onChange={(e) => update({ search: e.currentTarget.value })}
          w={{ base: '100%', xs: 260 }}
        />
        <Select
          aria-label="Connection"
          data={[{ value: '', label: 'Online or not' }, { value: 'true', label: 'Online' }, { value: 'false', label: 'Offline' }]}
          value={online}
          onChange={(next) => update({ online: next ?? '' })}
          w={150}
          allowDeselect={false}
        />
        <Select
          aria-label="Class"
          data={[{ value: '', label: 'Every class' }, ...CLASSES.map((name) => ({ value: name, label: name.replace('_', ' ') }))]}
          value={device_class}
          onChange={(next) => update({ device_class: next ?? '' })}
          w={160}
          allowDeselect={false}
        />
        {admin && <Switch label="Only mine" checked={!all} onChange={(e) => update({ scope: e.currentTarget.checked ? 'own' : '' })} />}
      </Group>
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} title="The devices cannot be shown" />}
      {query.isPending && <Waiting rows={8} />}
      {query.isSuccess && rows.length === 0 && !hasNextPage && (
        <Paper withBorder>
          {filtered ? (
            <Empty title="No device fits">
              Nothing has these words or properties.{' '}
              <Button variant="default" size="compact-sm" onClick={() => update({ search: '', online: '', device_class: '' })}>
                Show all
              </Button>
            </Empty>
          ) : (
            <Empty title="No devices yet">
              A device comes in with the fleet&apos;s provisioning key and shows a claim code, on its label or its screen. Enter the code
              under “Claim a device” to make it yours. Without hardware: <code>hexa sim --devices 3</code> makes devices to try.
            </Empty>
          )}
        </Paper>
      )}
      {rows.length > 0 && (
        <Paper withBorder>
          <VisuallyHidden role="status">
            {counted(rows.length, 'device')}{hasNextPage ? ' so far' : ''}
          </VisuallyHidden>
          <Box ref={scroller} h="calc(100dvh - 210px)" mih={240} style={{ overflowY: 'auto', contain: 'strict' }} tabIndex={0} role="region" aria-label="List of devices">
            <Box h={virtual.getTotalSize()} pos="relative" role="list">
              {seen.map((item) => {
                const device = rows[item.index]
                return (
                  device !== undefined && (
                    <Box key={device.uid} role="listitem" pos="absolute" top={0} left={0} right={0} h={item.size} style={{ transform: `translateY(${item.start}px)` }}>
                      <Row device={device} dense={dense} />
                    </Box>
                  )
                )
              })}
            </Box>
          </Box>
          <Text size="xs" c="dimmed" px="sm" py={4} className="hx-number">
            {rows.length}
            {hasNextPage ? ' and more: scroll to load them' : rows.length === 1 ? ' device' : ' devices'}
          </Text>
        </Paper>
      )}
      {claiming && (
        <Suspense>
          <Claim opened close={claim.close} />
        </Suspense>
      )}
    </>
  )
}

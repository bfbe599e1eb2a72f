import { Box, Group, Text, UnstyledButton } from '@mantine/core'
import { Link } from '@tanstack/react-router'
import { memo, type ReactNode } from 'react'
import type { Device } from '../../api/client'
import { newestRelayState, useLiveDevice, usePresence } from '../../state/live'
import { RelativeTime } from '../../ui/RelativeTime'
import { deviceName, isNamed, secondaryUid } from './deviceName'
import { PresenceBadge } from './PresenceBadge'

/** The relays that a row shows as dots; the others are only counted. */
const MAX_DOTS = 6

function RelayDots({ device }: { device: Device }): ReactNode {
  const live = useLiveDevice(device.uid)
  const states = device.relays.map((r) => newestRelayState(device, live.relays.get(r.index), r.index).state)
  const on = states.filter((s) => s === true).length
  return (
    <Group gap={3} wrap="nowrap" role="img" aria-label={`${on} of ${states.length} relays on`}>
      {states.slice(0, MAX_DOTS).map((state, n) => (
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

/** The widths of all columns but the first, for the header and the rows. */
const COLUMNS = {
  presence: { base: 72, xs: 92 },
  relays: { base: 64, xs: 130 },
  firmware: 120,
  owner: 170,
  seen: 120,
} as const

interface CellProps {
  column: keyof typeof COLUMNS
  children: ReactNode
  header?: boolean
}

function Cell({ column, children, header }: CellProps): ReactNode {
  const visibleFrom = { presence: undefined, relays: undefined, firmware: 'md', owner: 'md', seen: 'lg' }[column] as 'md' | 'lg' | undefined
  return (
    <Box w={COLUMNS[column]} {...(visibleFrom === undefined ? {} : { visibleFrom })} role={header === true ? 'columnheader' : 'cell'} fz={header === true ? 'xs' : 'sm'} style={{ flexShrink: 0 }}>
      {children}
    </Box>
  )
}

interface DeviceHeaderProps {
  owners: boolean
  byName: boolean
  sort: (byName: boolean) => void
}

/** The header of the list, which sorts it by name or by registration. */
export function DeviceHeader({ owners, byName, sort }: DeviceHeaderProps): ReactNode {
  return (
    <Group role="row" wrap="nowrap" gap="sm" px="sm" h={36} aria-rowindex={1} className="hx-head">
      <Box role="columnheader" flex="1 1 0" miw={0} aria-sort={byName ? 'ascending' : 'none'}>
        <UnstyledButton fz="xs" fw={600} onClick={() => sort(!byName)} aria-label={byName ? 'Device, sorted by name: sort by registration' : 'Device, sorted by registration: sort by name'}>
          Device {byName ? '↑' : '↕'}
        </UnstyledButton>
      </Box>
      <Cell column="presence" header>State</Cell>
      <Cell column="relays" header>Relays</Cell>
      <Cell column="firmware" header>Firmware</Cell>
      {owners && <Cell column="owner" header>Owner</Cell>}
      <Cell column="seen" header>Last seen</Cell>
    </Group>
  )
}

interface DeviceRowProps {
  device: Device
  dense: boolean
  owners: boolean
  index: number
}

/** One device of the list; the whole row links to its page. */
export const DeviceRow = memo(function DeviceRow({ device, dense, owners, index }: DeviceRowProps): ReactNode {
  const presence = usePresence(device)
  const uid = secondaryUid(device)
  const owner = device.owner?.name ?? device.owner?.email
  return (
    <Group className="hx-row hx-line" data-uid={device.uid} role="row" aria-rowindex={index + 2} wrap="nowrap" gap="sm" px="sm" h="100%">
      <Box flex="1 1 0" miw={0} role="cell">
        <Text size="sm" fw={500} truncate>
          <Link to="/devices/$uid" params={{ uid: device.uid }} className="hx-all">
            {deviceName(device)}
          </Link>
          {dense && !isNamed(device) && uid !== null && (
            <Text span size="xs" c="dimmed" fw={400}>
              {' '}
              {uid}
            </Text>
          )}
        </Text>
        {!dense && (
          <Text size="xs" c="dimmed" truncate>
            {uid ?? device.device_class.replace('_', ' ')}
          </Text>
        )}
      </Box>
      <Cell column="presence">
        <PresenceBadge presence={presence} />
      </Cell>
      <Cell column="relays">
        <RelayDots device={device} />
      </Cell>
      <Cell column="firmware">
        <Text size="xs" c="dimmed" truncate>
          {device.firmware_version ?? device.model ?? ''}
        </Text>
      </Cell>
      {owners && (
        <Cell column="owner">
          <Text size="xs" c="dimmed" truncate title={device.owner?.email ?? ''}>
            {owner ?? 'unclaimed'}
          </Text>
        </Cell>
      )}
      <Cell column="seen">
        <RelativeTime at={device.last_seen_at} />
      </Cell>
    </Group>
  )
})

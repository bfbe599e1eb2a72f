import { Box, Group, Text, UnstyledButton } from '@mantine/core'
import { Link } from '@tanstack/react-router'
import { memo, type ReactNode } from 'react'
import type { Device } from '../../api/client'
import { relayNow, useLive, usePresence } from '../../state/live'
import { PresenceBadge, When } from '../../ui/bits'

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

/** Widths of the columns behind the first, for the head and for rows. */
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
  head?: boolean
}

function Cell({ column, children, head }: CellProps): ReactNode {
  const from = { presence: undefined, relays: undefined, firmware: 'md', owner: 'md', seen: 'lg' }[column] as 'md' | 'lg' | undefined
  return (
    <Box w={COLUMNS[column]} {...(from === undefined ? {} : { visibleFrom: from })} role={head === true ? 'columnheader' : 'cell'} fz={head === true ? 'xs' : 'sm'} style={{ flexShrink: 0 }}>
      {children}
    </Box>
  )
}

interface HeadProps {
  owners: boolean
  byName: boolean
  sort: (byName: boolean) => void
}

/** The head of the list; by name, or in the order in which devices came in. */
export function Head({ owners, byName, sort }: HeadProps): ReactNode {
  return (
    <Group role="row" wrap="nowrap" gap="sm" px="sm" h={36} aria-rowindex={1} className="hx-head">
      <Box role="columnheader" flex="1 1 0" miw={0} aria-sort={byName ? 'ascending' : 'none'}>
        <UnstyledButton fz="xs" fw={600} onClick={() => sort(!byName)} aria-label={byName ? 'Device, sorted by name: sort by arrival' : 'Device, sorted by arrival: sort by name'}>
          Device {byName ? '↑' : '↕'}
        </UnstyledButton>
      </Box>
      <Cell column="presence" head>State</Cell>
      <Cell column="relays" head>Relays</Cell>
      <Cell column="firmware" head>Firmware</Cell>
      {owners && <Cell column="owner" head>Owner</Cell>}
      <Cell column="seen" head>Last seen</Cell>
    </Group>
  )
}

interface RowProps {
  device: Device
  dense: boolean
  owners: boolean
  index: number
}

/** One device; all of it leads to its page. */
export const Row = memo(function Row({ device, dense, owners, index }: RowProps): ReactNode {
  const presence = usePresence(device)
  const owner = device.owner?.name ?? device.owner?.email
  return (
    <Group className="hx-row hx-line" data-uid={device.uid} role="row" aria-rowindex={index + 2} wrap="nowrap" gap="sm" px="sm" h="100%">
      <Box flex="1 1 0" miw={0} role="cell">
        <Text size="sm" fw={500} truncate>
          <Link to="/devices/$uid" params={{ uid: device.uid }} className="hx-all">
            {device.name ?? device.uid}
          </Link>
        </Text>
        {!dense && (
          <Text size="xs" c="dimmed" truncate>
            {device.name === null ? device.device_class.replace('_', ' ') : device.uid}
          </Text>
        )}
      </Box>
      <Cell column="presence">
        <PresenceBadge presence={presence} />
      </Cell>
      <Cell column="relays">
        <Lamps device={device} />
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
        <When at={device.last_seen_at} />
      </Cell>
    </Group>
  )
})

import { Alert, Anchor, Box, Group, Paper, SimpleGrid, Stack, Text } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { type ReactNode, useMemo } from 'react'
import type { Fleet } from '../../../api/client'
import { fleetQuery, latestQuery, pluginsQuery } from '../../../api/queries'
import { change, usePreferences } from '../../../state/preferences'
import { AuditList } from '../../../ui/AuditList'
import { Card } from '../../../ui/Card'
import { counted, Fact, PageTitle, Waiting } from '../../../ui/bits'
import { PluginState } from '../plugins/PluginStateBadge'
import { later } from '../../../ui/lazyComponent'
import { Problem } from '../../../ui/ErrorAlert'

const Chart = later(() => import('../../../ui/Chart').then((m) => m.Chart), <Waiting />)

interface KpiProps {
  name: string
  value: number | string
  note?: string
  /** Where it is listed. */
  link?: (children: ReactNode) => ReactNode
}

function Kpi({ name, value, note, link }: KpiProps): ReactNode {
  const shown = (
    <Paper withBorder p="sm" h="100%">
      <Text size="xs" c="dimmed">
        {name}
      </Text>
      <Text fz={26} fw={700} className="hx-number" lh={1.2}>
        {typeof value === 'number' ? value.toLocaleString('en') : value}
      </Text>
      <Text size="xs" c="dimmed" mih={18}>
        {note ?? ''}
      </Text>
    </Paper>
  )
  return link === undefined ? shown : link(shown)
}

const devices = (presence: string) =>
  function listed(children: ReactNode): ReactNode {
    return (
      <Link to="/devices" search={{ presence }} className="hx-row">
        {children}
      </Link>
    )
  }
const users = (children: ReactNode): ReactNode => (
  <Link to="/users" className="hx-row">
    {children}
  </Link>
)

function useSamples(fleet: Fleet | undefined) {
  return useMemo(() => {
    const samples = fleet?.commands.samples ?? []
    const per = fleet?.commands.sample_s ?? 5
    return {
      times: samples.map((s) => Date.parse(s.at) / 1000),
      rate: [
        { label: 'commands', values: samples.map((s) => s.commands / per), colour: 'main' as const, unit: '/s' },
        { label: 'failed', values: samples.map((s) => s.failed / per), colour: 'bad' as const, unit: '/s' },
      ],
      latency: [
        { label: 'p50', values: samples.map((s) => s.p50_ms ?? null), colour: 'soft' as const, unit: ' ms' },
        { label: 'p95', values: samples.map((s) => s.p95_ms ?? null), colour: 'main' as const, unit: ' ms' },
      ],
    }
  }, [fleet])
}

const CARDS = ['fleet', 'commands', 'latency', 'audit', 'plugins'] as const
type CardId = (typeof CARDS)[number]

/** The order that the account keeps, with cards that it does not know of at the end. */
export function ordered(kept: readonly string[] | undefined): CardId[] {
  const known = (kept ?? []).filter((id): id is CardId => (CARDS as readonly string[]).includes(id))
  return [...new Set([...known, ...CARDS])]
}

/** The fleet at a glance. */
export function Overview(): ReactNode {
  const fleet = useQuery(fleetQuery)
  const audit = useQuery(latestQuery)
  const plugins = useQuery(pluginsQuery)
  const { order } = usePreferences().dashboard_layout
  const cards = ordered(order.overview)
  const samples = useSamples(fleet.data)
  const move = (id: CardId) => (by: -1 | 1) => {
    const from = cards.indexOf(id)
    const to = from + by
    if (to < 0 || to >= cards.length) return
    const next = [...cards]
    next.splice(from, 1)
    next.splice(to, 0, id)
    change('dashboard_layout', { order: { ...order, overview: next } })
  }
  const last = fleet.data?.commands.samples.at(-1)
  const per = fleet.data?.commands.sample_s ?? 5
  const shown: Record<CardId, ReactNode> = {
    fleet: (
      <Card id="overview.fleet" title="Fleet" move={move('fleet')}>
        {fleet.isPending && <Waiting rows={2} />}
        {fleet.data !== undefined && (
          <SimpleGrid cols={{ base: 2, xs: 3, md: 6 }} spacing="xs" data-kpis>
            <Kpi name="Devices" value={fleet.data.devices.total} note={`${fleet.data.devices.unclaimed.toLocaleString('en')} unclaimed`} link={devices('any')} />
            <Kpi name="Online" value={fleet.data.devices.online} note={fleet.data.devices.total === 0 ? '' : `${Math.round((100 * fleet.data.devices.online) / fleet.data.devices.total)} %`} link={devices('online')} />
            <Kpi name="Stale" value={fleet.data.devices.stale} note={`silent over ${fleet.data.devices.stale_after_s} s`} link={devices('stale')} />
            <Kpi name="Offline" value={fleet.data.devices.offline} link={devices('offline')} />
            <Kpi name="Commands" value={last === undefined ? '–' : `${Math.round((10 * last.commands) / per) / 10}/s`} note={last?.p95_ms == null ? 'none lately' : `p95 ${last.p95_ms.toFixed(1)} ms`} />
            <Kpi name="Users" value={fleet.data.users.active} note={`${counted(fleet.data.users.admins, 'admin')}, ${counted(fleet.data.clients, 'socket')}`} link={users} />
          </SimpleGrid>
        )}
      </Card>
    ),
    commands: (
      <Card id="overview.commands" title="Commands per second" move={move('commands')}>
        <Chart times={samples.times} series={samples.rate} label="Commands per second over the last minutes" />
      </Card>
    ),
    latency: (
      <Card id="overview.latency" title="Command latency" move={move('latency')}>
        <Chart times={samples.times} series={samples.latency} label="Latency of successful commands over the last minutes" />
      </Card>
    ),
    audit: (
      <Card id="overview.audit" title="Latest events" move={move('audit')} aside={<Anchor component={Link} to="/audit" size="sm">All</Anchor>}>
        {audit.isPending && <Waiting />}
        {audit.isError && <Problem thrown={audit.error} retry={() => void audit.refetch()} />}
        {audit.data !== undefined && <AuditList rows={audit.data.items} />}
      </Card>
    ),
    plugins: (
      <Card id="overview.plugins" title="Drivers and server" move={move('plugins')} aside={<Anchor component={Link} to="/plugins" size="sm">All</Anchor>}>
        <Stack gap="sm">
          {plugins.isError && <Problem thrown={plugins.error} retry={() => void plugins.refetch()} />}
          {plugins.data?.items.map((plugin) => (
            <Group key={plugin.id} justify="space-between" wrap="nowrap">
              <Box miw={0}>
                <Text size="sm" truncate>
                  {plugin.id} {plugin.version}
                </Text>
                <Text size="xs" c="dimmed">
                  {counted(plugin.calls, 'call')}, {counted(plugin.faults, 'fault')}, {counted(plugin.sessions, 'device')}
                </Text>
              </Box>
              <PluginState state={plugin.state} />
            </Group>
          ))}
          {fleet.data !== undefined && (
            <Group component="dl" gap="xl" m={0}>
              <Fact name="Server">Hexa {fleet.data.version}</Fact>
              <Fact name="Database">{fleet.data.database}</Fact>
            </Group>
          )}
        </Stack>
      </Card>
    ),
  }
  return (
    <>
      <PageTitle title="Overview" />
      {fleet.isError && (
        <Box mb="md">
          <Problem thrown={fleet.error} retry={() => void fleet.refetch()} title="The fleet's numbers cannot be read" />
        </Box>
      )}
      {fleet.data?.devices.total === 0 && (
        <Alert mb="md" title="No devices yet" color="hexa">
          Devices come in with the provisioning key of this server (docs/DEVICES.md). To try without hardware: <code>hexa sim --devices 3</code>.
        </Alert>
      )}
        <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="md">
          {cards.map((id) => (
            <Box key={id} style={id === 'fleet' ? { gridColumn: '1 / -1' } : {}} miw={0}>
              {shown[id]}
            </Box>
          ))}
        </SimpleGrid>
    </>
  )
}

import { Alert, Anchor, Box, Group, Paper, SimpleGrid, Stack, Text } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { type ReactNode, useMemo } from 'react'
import type { Fleet } from '../../../api/client'
import { changePreferences, usePreferences } from '../../../state/preferences'
import { AuditList } from '../../../ui/AuditList'
import { Card } from '../../../ui/Card'
import { DescriptionItem } from '../../../ui/DescriptionItem'
import { ErrorAlert } from '../../../ui/ErrorAlert'
import { lazyComponent } from '../../../ui/lazyComponent'
import { LoadingRows } from '../../../ui/LoadingRows'
import { PageTitle } from '../../../ui/PageTitle'
import { pluralize } from '../../../ui/pluralize'
import { latestAuditQuery } from '../../audit/queries'
import { PluginStateBadge } from '../plugins/PluginStateBadge'
import { fleetQuery, pluginsQuery } from '../queries'
import { type CardId, cardOrder } from './cardOrder'

const Chart = lazyComponent(() => import('../../../ui/Chart').then((m) => m.Chart), <LoadingRows />)

interface FigureProps {
  name: string
  value: number | string
  note?: string
  /** Wraps the figure in a link to its list. */
  link?: (children: ReactNode) => ReactNode
}

function Figure({ name, value, note, link }: FigureProps): ReactNode {
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

const toDevices = (presence: string) =>
  function linked(children: ReactNode): ReactNode {
    return (
      <Link to="/devices" search={{ presence }} className="hx-row">
        {children}
      </Link>
    )
  }
const toUsers = (children: ReactNode): ReactNode => (
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

/** The first page of admins: counts, charts and the latest events. */
export function OverviewPage(): ReactNode {
  const fleet = useQuery(fleetQuery)
  const audit = useQuery(latestAuditQuery)
  const plugins = useQuery(pluginsQuery)
  const { order } = usePreferences().dashboard_layout
  const cards = cardOrder(order.overview)
  const samples = useSamples(fleet.data)
  const move = (id: CardId) => (by: -1 | 1) => {
    const from = cards.indexOf(id)
    const to = from + by
    if (to < 0 || to >= cards.length) return
    const next = [...cards]
    next.splice(from, 1)
    next.splice(to, 0, id)
    changePreferences('dashboard_layout', { order: { ...order, overview: next } })
  }
  const last = fleet.data?.commands.samples.at(-1)
  const per = fleet.data?.commands.sample_s ?? 5
  const shown: Record<CardId, ReactNode> = {
    fleet: (
      <Card id="overview.fleet" title="Fleet" move={move('fleet')}>
        {fleet.isPending && <LoadingRows rows={2} />}
        {fleet.data !== undefined && (
          <SimpleGrid cols={{ base: 2, xs: 3, md: 6 }} spacing="xs" data-kpis>
            <Figure name="Devices" value={fleet.data.devices.total} note={`${fleet.data.devices.unclaimed.toLocaleString('en')} unclaimed`} link={toDevices('any')} />
            <Figure name="Online" value={fleet.data.devices.online} note={fleet.data.devices.total === 0 ? '' : `${Math.round((100 * fleet.data.devices.online) / fleet.data.devices.total)} %`} link={toDevices('online')} />
            <Figure name="Stale" value={fleet.data.devices.stale} note={`silent for ${fleet.data.devices.stale_after_s} s`} link={toDevices('stale')} />
            <Figure name="Offline" value={fleet.data.devices.offline} link={toDevices('offline')} />
            <Figure name="Commands" value={last === undefined ? '–' : `${Math.round((10 * last.commands) / per) / 10}/s`} note={last?.p95_ms == null ? 'no recent commands' : `p95 ${last.p95_ms.toFixed(1)} ms`} />
            <Figure name="Users" value={fleet.data.users.active} note={`${pluralize(fleet.data.users.admins, 'admin')}, ${pluralize(fleet.data.clients, 'socket')}`} link={toUsers} />
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
        {audit.isPending && <LoadingRows />}
        {audit.isError && <ErrorAlert thrown={audit.error} retry={() => void audit.refetch()} />}
        {audit.data !== undefined && <AuditList rows={audit.data.items} />}
      </Card>
    ),
    plugins: (
      <Card id="overview.plugins" title="Plugins and server" move={move('plugins')} aside={<Anchor component={Link} to="/plugins" size="sm">All</Anchor>}>
        <Stack gap="sm">
          {plugins.isError && <ErrorAlert thrown={plugins.error} retry={() => void plugins.refetch()} />}
          {plugins.data?.items.map((plugin) => (
            <Group key={plugin.id} justify="space-between" wrap="nowrap">
              <Box miw={0}>
                <Text size="sm" truncate>
                  {plugin.id} {plugin.version}
                </Text>
                <Text size="xs" c="dimmed">
                  {pluralize(plugin.calls, 'call')}, {pluralize(plugin.faults, 'fault')}, {pluralize(plugin.sessions, 'device')}
                </Text>
              </Box>
              <PluginStateBadge state={plugin.state} />
            </Group>
          ))}
          {fleet.data !== undefined && (
            <Group component="dl" gap="xl" m={0}>
              <DescriptionItem name="Server">Hexa {fleet.data.version}</DescriptionItem>
              <DescriptionItem name="Database">{fleet.data.database}</DescriptionItem>
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
          <ErrorAlert thrown={fleet.error} retry={() => void fleet.refetch()} title="The fleet's figures cannot be read" />
        </Box>
      )}
      {fleet.data?.devices.total === 0 && (
        <Alert mb="md" title="No devices yet" color="hexa">
          Devices register with the provisioning key of this server (docs/DEVICES.md). To try it without hardware, run <code>hexa sim --devices 3</code>.
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

import { Code, Group, SimpleGrid, TextInput } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { type ReactNode, useMemo, useState } from 'react'
import { metricsQuery } from '../../../api/queries'
import { onForget } from '../../../state/resetSession'
import { parse, type Point, rate, total } from './prometheus'
import { Card } from '../../../ui/Card'
import { Chart, type Series } from '../../../ui/Chart'
import { Copy } from '../../../ui/CopyButton'
import { PageTitle, Waiting } from '../../../ui/bits'
import { Problem } from '../../../ui/ErrorAlert'

/** Ten minutes. */
const KEPT = 120
/** The raw text is long; what is not shown is found by the filter. */
const LINES = 400

let points: readonly Point[] = []
onForget(() => (points = []))

/** What was read before, also by an earlier visit of this page, and what was read now. */
function kept(read: { at: number; text: string } | undefined): readonly Point[] {
  if (read !== undefined && read.at > (points.at(-1)?.at ?? 0))
    points = [...points.slice(1 - KEPT), { at: read.at, samples: parse(read.text) }]
  return points
}

interface Drawn {
  id: string
  title: string
  series: (points: readonly Point[]) => Series[]
}

const gauge = (points: readonly Point[], name: string) => points.map((p) => total(p.samples, name))

const CHARTS: Drawn[] = [
  {
    id: 'commands',
    title: 'Commands',
    series: (p) => [
      { label: 'success', values: rate(p, 'hexa_commands_total', 'outcome="success"'), colour: 'main', unit: '/s' },
      { label: 'error', values: rate(p, 'hexa_commands_total', 'outcome="error"'), colour: 'bad', unit: '/s' },
      { label: 'timeout', values: rate(p, 'hexa_commands_total', 'outcome="timeout"'), colour: 'soft', unit: '/s' },
    ],
  },
  {
    id: 'sessions',
    title: 'Connected',
    series: (p) => [
      { label: 'devices', values: gauge(p, 'hexa_device_sessions'), colour: 'main' },
      { label: 'clients', values: gauge(p, 'hexa_client_sessions'), colour: 'soft' },
    ],
  },
  {
    id: 'frames',
    title: 'Frames to clients',
    series: (p) => [
      { label: 'sent', values: rate(p, 'hexa_broadcast_frames_total'), colour: 'main', unit: '/s' },
      { label: 'folded', values: rate(p, 'hexa_client_conflated_total'), colour: 'soft', unit: '/s' },
    ],
  },
  {
    id: 'errors',
    title: 'Errors answered',
    series: (p) => [{ label: 'errors', values: rate(p, 'hexa_api_errors_total'), colour: 'bad', unit: '/s' }],
  },
  {
    id: 'reports',
    title: 'State reports',
    series: (p) => [{ label: 'reports', values: rate(p, 'hexa_state_reports_total'), colour: 'main', unit: '/s' }],
  },
]

/** What the server counts: drawn, and as it is. */
export function Metrics(): ReactNode {
  const query = useQuery(metricsQuery)
  const [filter, setFilter] = useState('')
  const shown = useMemo(() => kept(query.data), [query.data])
  const times = useMemo(() => shown.map((p) => p.at / 1000), [shown])
  const drawn = useMemo(() => CHARTS.map((chart) => ({ ...chart, series: chart.series(shown) })), [shown])
  const lines = useMemo(() => {
    const words = filter.trim().toLowerCase()
    return (query.data?.text ?? '').split('\n').filter((line) => words === '' || line.toLowerCase().includes(words))
  }, [query.data, filter])
  return (
    <>
      <PageTitle title="Metrics" />
      {query.isPending && <Waiting rows={8} />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} title="The metrics cannot be read" />}
      {query.data !== undefined && (
        <>
          <SimpleGrid cols={{ base: 1, md: 2 }} spacing="md" mb="md">
            {drawn.map((chart) => (
              <Card key={chart.id} id={`metrics.${chart.id}`} title={chart.title}>
                <Chart times={times} series={chart.series} label={chart.title} />
              </Card>
            ))}
          </SimpleGrid>
          <Card
            id="metrics.raw"
            title="Raw"
            aside={
              <Copy text={query.data.text} label="Copy all" size="compact-xs" variant="default" />
            }
          >
            <Group mb="xs">
              <TextInput aria-label="Filter lines" placeholder="hexa_commands" value={filter} onChange={(e) => setFilter(e.currentTarget.value)} w={260} />
            </Group>
            <Code block mah={480} style={{ overflow: 'auto' }} tabIndex={0} role="region" aria-label="Prometheus text">
              {lines.slice(0, LINES).join('\n')}
              {lines.length > LINES ? `\n… ${lines.length - LINES} more lines: filter to see them` : ''}
            </Code>
          </Card>
        </>
      )}
    </>
  )
}

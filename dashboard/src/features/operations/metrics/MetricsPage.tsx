import { Code, Group, SimpleGrid, TextInput } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { type ReactNode, useMemo, useState } from 'react'
import { onSessionReset } from '../../../state/resetSession'
import { Card } from '../../../ui/Card'
import { Chart, type Series } from '../../../ui/Chart'
import { CopyButton } from '../../../ui/CopyButton'
import { ErrorAlert } from '../../../ui/ErrorAlert'
import { LoadingRows } from '../../../ui/LoadingRows'
import { PageTitle } from '../../../ui/PageTitle'
import { metricsQuery } from '../queries'
import { parse, type Point, rate, total } from './prometheus'

/** Samples that are kept: ten minutes of them. */
const MAX_POINTS = 120
/** Lines of the raw text that are shown; the filter finds the others. */
const MAX_LINES = 400

let points: readonly Point[] = []
onSessionReset(() => (points = []))

/** Adds a sample to those that were read before, also on an earlier visit of the page. */
function addSample(read: { at: number; text: string } | undefined): readonly Point[] {
  if (read !== undefined && read.at > (points.at(-1)?.at ?? 0))
    points = [...points.slice(1 - MAX_POINTS), { at: read.at, samples: parse(read.text) }]
  return points
}

interface MetricsChart {
  id: string
  title: string
  series: (points: readonly Point[]) => Series[]
}

const gauge = (points: readonly Point[], name: string) => points.map((p) => total(p.samples, name))

const CHARTS: MetricsChart[] = [
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
      { label: 'merged', values: rate(p, 'hexa_client_conflated_total'), colour: 'soft', unit: '/s' },
    ],
  },
  {
    id: 'errors',
    title: 'API errors',
    series: (p) => [{ label: 'errors', values: rate(p, 'hexa_api_errors_total'), colour: 'bad', unit: '/s' }],
  },
  {
    id: 'reports',
    title: 'State reports',
    series: (p) => [{ label: 'reports', values: rate(p, 'hexa_state_reports_total'), colour: 'main', unit: '/s' }],
  },
]

/** The server's metrics, as charts and as raw text. */
export function MetricsPage(): ReactNode {
  const query = useQuery(metricsQuery)
  const [filter, setFilter] = useState('')
  const shown = useMemo(() => addSample(query.data), [query.data])
  const times = useMemo(() => shown.map((p) => p.at / 1000), [shown])
  const charts = useMemo(() => CHARTS.map((chart) => ({ ...chart, series: chart.series(shown) })), [shown])
  const lines = useMemo(() => {
    const words = filter.trim().toLowerCase()
    return (query.data?.text ?? '').split('\n').filter((line) => words === '' || line.toLowerCase().includes(words))
  }, [query.data, filter])
  return (
    <>
      <PageTitle title="Metrics" />
      {query.isPending && <LoadingRows rows={8} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} title="The metrics cannot be read" />}
      {query.data !== undefined && (
        <>
          <SimpleGrid cols={{ base: 1, md: 2 }} spacing="md" mb="md">
            {charts.map((chart) => (
              <Card key={chart.id} id={`metrics.${chart.id}`} title={chart.title}>
                <Chart times={times} series={chart.series} label={chart.title} />
              </Card>
            ))}
          </SimpleGrid>
          <Card
            id="metrics.raw"
            title="Raw"
            aside={
              <CopyButton text={query.data.text} label="Copy all" size="compact-xs" variant="default" />
            }
          >
            <Group mb="xs">
              <TextInput aria-label="Filter lines" placeholder="hexa_commands" value={filter} onChange={(e) => setFilter(e.currentTarget.value)} w={260} />
            </Group>
            <Code block mah={480} style={{ overflow: 'auto' }} tabIndex={0} role="region" aria-label="Prometheus text">
              {lines.slice(0, MAX_LINES).join('\n')}
              {lines.length > MAX_LINES ? `\n… ${lines.length - MAX_LINES} more lines: use the filter to see them` : ''}
            </Code>
          </Card>
        </>
      )}
    </>
  )
}

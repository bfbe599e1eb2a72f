import 'uplot/dist/uPlot.min.css'
import { Box, useComputedColorScheme } from '@mantine/core'
import { useElementSize } from '@mantine/hooks'
import { type ReactNode, useEffect, useRef } from 'react'
import uPlot from 'uplot'

export interface Series {
  label: string
  values: (number | null)[]
  colour: 'main' | 'bad' | 'soft'
  unit?: string
}

const COLOURS = {
  light: { main: '#0b7285', bad: '#c92a2a', soft: '#868e96', grid: '#e9ecef', text: '#495057' },
  dark: { main: '#3bafc0', bad: '#ff8787', soft: '#adb5bd', grid: '#373a40', text: '#c1c2c5' },
} as const

/** The shortest time span of a chart. */
const MIN_SPAN_S = 60

const FONT = '11px "Inter Variable", system-ui, sans-serif'
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' })
const exact = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' })

/** Distances between two ticks, in seconds. */
const STEPS_S = [10, 30, 60, 120, 300, 600, 1800, 3600]

/** From the first sample to the last, at least a minute: uPlot would show years for a single sample. */
function span(plot: uPlot): [number, number] {
  const times = plot.data[0]
  const last = times.at(-1) ?? Date.now() / 1000
  return [Math.min(times[0] ?? last, last - MIN_SPAN_S), last]
}

/** The indices of values between two gaps, which are drawn as points because they make no line. */
export function isolatedPoints(values: readonly (number | null | undefined)[]): number[] | null {
  const indices = values.flatMap((v, i) => (v != null && values[i - 1] == null && values[i + 1] == null ? [i] : []))
  return indices.length > 0 ? indices : null
}

/** Shows the newest values in the legend, unless the pointer is over others. */
function showNewestValues(plot: uPlot): void {
  const { length } = plot.data[0]
  if ((plot.cursor.left ?? -1) < 0 && length > 0) plot.setLegend({ idx: length - 1 })
}

function draw(plot: uPlot | null, times: number[], series: Series[]): void {
  plot?.setData([times, ...series.map((s) => s.values)])
  if (plot !== null) showNewestValues(plot)
}

/** Lines over time, with their last values as text for screen readers. */
export function Chart({ times, series, height = 160, label }: { times: number[]; series: Series[]; height?: number; label: string }): ReactNode {
  const { ref, width } = useElementSize<HTMLDivElement>()
  const scheme = useComputedColorScheme('light')
  const container = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | null>(null)
  const shape = series.map((s) => `${s.label}${s.colour}${s.unit ?? ''}`).join('|')

  useEffect(() => {
    if (container.current === null || width === 0) return
    const colours = COLOURS[scheme]
    const axis = { stroke: colours.text, grid: { stroke: colours.grid, width: 1 }, ticks: { stroke: colours.grid }, font: FONT }
    plot.current = new uPlot(
      {
        width,
        height,
        cursor: { y: false },
        legend: { live: true },
        hooks: { ready: [(made) => showNewestValues(made)] },
        scales: { x: { range: span }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
        axes: [
          { ...axis, incrs: STEPS_S, space: 70, values: (_, splits, __, ___, step) => splits.map((at) => (step < 60 ? exact : clock).format(at * 1000)) },
          { ...axis, size: 46 },
        ],
        series: [
          { value: (_, at: number | null) => (at === null ? '–' : exact.format(at * 1000)) },
          ...series.map((s) => ({
            label: s.label,
            stroke: colours[s.colour],
            width: 1.5,
            spanGaps: false,
            points: { show: false, filter: (u: uPlot, i: number) => isolatedPoints([...(u.data[i] ?? [])]), size: 5, fill: colours[s.colour] },
            value: (_: uPlot, v: number | null) => (v === null ? '–' : `${Math.round(v * 100) / 100}${s.unit ?? ''}`),
          })),
        ],
      },
      [times, ...series.map((s) => s.values)],
      container.current,
    )
    return () => {
      plot.current?.destroy()
      plot.current = null
    }
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the data is set by the effect below
  }, [width, height, scheme, shape])

  useEffect(() => {
    draw(plot.current, times, series)
  }, [times, series])

  const last = series.map((s) => `${s.label} ${s.values.findLast((v) => v !== null)?.toFixed(1) ?? 'none'}${s.unit ?? ''}`).join(', ')
  return (
    <Box ref={ref} role="img" aria-label={`${label}: ${last}`}>
      <div ref={container} />
    </Box>
  )
}

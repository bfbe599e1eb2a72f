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

/** Time that a chart shows at least. */
const SHORTEST_S = 60

/** The newest values are in the legend while nobody points at others. */
function draw(plot: uPlot | null, times: number[], series: Series[]): void {
  plot?.setData([times, ...series.map((s) => s.values)])
  if (plot !== null && (plot.cursor.left ?? -1) < 0 && times.length > 0) plot.setLegend({ idx: times.length - 1 })
}

/** Lines over time. What they show is also said in words, for those who do not see them. */
export function Chart({ times, series, height = 160, label }: { times: number[]; series: Series[]; height?: number; label: string }): ReactNode {
  const { ref, width } = useElementSize<HTMLDivElement>()
  const scheme = useComputedColorScheme('light')
  const holder = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | null>(null)
  const shape = series.map((s) => `${s.label}${s.colour}${s.unit ?? ''}`).join('|')

  useEffect(() => {
    if (holder.current === null || width === 0) return
    const colours = COLOURS[scheme]
    const axis = { stroke: colours.text, grid: { stroke: colours.grid, width: 1 }, ticks: { stroke: colours.grid }, font: '11px system-ui' }
    plot.current = new uPlot(
      {
        width,
        height,
        cursor: { y: false },
        legend: { live: true },
        scales: { x: { range: (_, min, max) => [Math.min(min, max - SHORTEST_S), max] }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
        axes: [axis, { ...axis, size: 46 }],
        series: [
          {},
          ...series.map((s) => ({
            label: s.label,
            stroke: colours[s.colour],
            width: 1.5,
            spanGaps: false,
            points: { show: false },
            value: (_: uPlot, v: number | null) => (v === null ? '–' : `${Math.round(v * 100) / 100}${s.unit ?? ''}`),
          })),
        ],
      },
      [times, ...series.map((s) => s.values)],
      holder.current,
    )
    draw(plot.current, times, series)
    return () => {
      plot.current?.destroy()
      plot.current = null
    }
    // eslint-disable-next-line react-hooks/exhaustive-deps -- data goes in below; this is the frame
  }, [width, height, scheme, shape])

  useEffect(() => {
    draw(plot.current, times, series)
  }, [times, series])

  const last = series.map((s) => `${s.label} ${s.values.findLast((v) => v !== null)?.toFixed(1) ?? 'none'}${s.unit ?? ''}`).join(', ')
  return (
    <Box ref={ref} role="img" aria-label={`${label}: ${last}`}>
      <div ref={holder} />
    </Box>
  )
}

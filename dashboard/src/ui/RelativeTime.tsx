import { Text, Tooltip } from '@mantine/core'
import { useInterval } from '@mantine/hooks'
import { type ReactNode, useEffect, useState } from 'react'
import { serverNow } from '../api/serverClock'

const REFRESH_MS = 10_000

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
]
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })
/** With its zone: the browser's, which may differ from that of the devices, and which some browsers always report as UTC. */
const absolute = new Intl.DateTimeFormat(undefined, {
  year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', timeZoneName: 'short',
})

/** A time with its date and zone, such as `29 Nov 2026, 12:30:00 CET`. */
export const absoluteTime = (at: number): string => absolute.format(at)

/** A time as its distance from `now`, such as `3 days ago`. */
export function relativeTime(at: number, now: number): string {
  const seconds = Math.round((at - now) / 1000)
  if (Math.abs(seconds) < 5) return 'just now'
  const [unit, size] = UNITS.find(([, s]) => Math.abs(seconds) >= s) ?? ['second', 1]
  return relative.format(Math.trunc(seconds / size), unit)
}

/** A time as its distance from now; the absolute time is in the tooltip and in the markup. */
export function RelativeTime({ at }: { at: string | null | undefined }): ReactNode {
  const [now, setNow] = useState(serverNow)
  const refresh = useInterval(() => setNow(serverNow()), REFRESH_MS)
  useEffect(() => {
    refresh.start()
    return refresh.stop
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the interval stays the same while the component is mounted
  }, [])
  const time = Date.parse(at ?? '')
  if (!Number.isFinite(time)) return <Text span inherit>never</Text>
  return (
    <Tooltip label={absoluteTime(time)}>
      <Text span inherit>
        <time dateTime={at ?? ''}>{relativeTime(time, Math.max(now, serverNow() - REFRESH_MS))}</time>
      </Text>
    </Tooltip>
  )
}

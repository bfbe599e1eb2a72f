import { Badge, Box, Group, Loader, Skeleton, Stack, Text, Title, Tooltip } from '@mantine/core'
import { useInterval } from '@mantine/hooks'
import { type ReactNode, useEffect, useState } from 'react'
import { serverNow } from '../api/client'
import type { Presence } from '../state/live'

/** The page's name, in the document's title as well, and what can be done with all of it. */
export function PageTitle({ title, children }: { title: string; children?: ReactNode }): ReactNode {
  useEffect(() => {
    document.title = `${title} · Hexa`
  }, [title])
  return (
    <Group justify="space-between" mb="md" gap="xs">
      <Title order={1} size="h3" style={{ overflowWrap: 'anywhere' }}>
        {title}
      </Title>
      <Group gap="xs">{children}</Group>
    </Group>
  )
}

/** Nothing is there, and how something comes there. */
export function Empty({ title, children }: { title: string; children?: ReactNode }): ReactNode {
  return (
    <Stack align="center" gap="xs" py="xl" px="md" ta="center">
      <Text fw={600}>{title}</Text>
      <Text c="dimmed" size="sm" maw="34rem" component="div">
        {children}
      </Text>
    </Stack>
  )
}

const COLOURS: Record<Presence, string> = { online: 'teal', stale: 'yellow', offline: 'gray' }
const MEANINGS: Record<Presence, string> = {
  online: 'Connected, and heard of a moment ago',
  stale: 'Connected, but silent for longer than it should be',
  offline: 'Not connected',
}

/** Said in words, not by a colour alone (WCAG 1.4.1). */
export function PresenceBadge({ presence }: { presence: Presence }): ReactNode {
  return (
    <Tooltip label={MEANINGS[presence]}>
      <Badge variant="light" color={COLOURS[presence]} autoContrast className={`hx-badge hx-${presence}`}>
        {presence}
      </Badge>
    </Tooltip>
  )
}

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
]
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })
/** With its zone: it is the browser's, which may not be that of the house, and some browsers say UTC to everybody. */
const absolute = new Intl.DateTimeFormat(undefined, {
  year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', timeZoneName: 'short',
})

export const moment = (at: number): string => absolute.format(at)

export function ago(at: number, now: number): string {
  const seconds = Math.round((at - now) / 1000)
  if (Math.abs(seconds) < 5) return 'just now'
  const [unit, size] = UNITS.find(([, s]) => Math.abs(seconds) >= s) ?? ['second', 1]
  return relative.format(Math.trunc(seconds / size), unit)
}

/** A moment, as time since then; the whole of it on hover, and for machines. */
export function When({ at }: { at: string | null | undefined }): ReactNode {
  const [now, setNow] = useState(serverNow)
  const tick = useInterval(() => setNow(serverNow()), 10_000)
  useEffect(() => {
    tick.start()
    return tick.stop
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the interval is the same for as long as this is there
  }, [])
  const time = Date.parse(at ?? '')
  if (!Number.isFinite(time)) return <Text span inherit>never</Text>
  return (
    <Tooltip label={moment(time)}>
      <Text span inherit>
        <time dateTime={at ?? ''}>{ago(time, Math.max(now, serverNow() - 10_000))}</time>
      </Text>
    </Tooltip>
  )
}

/** A number and what it counts: `1 device`, `1,204 devices`. */
export function counted(count: number, one: string): string {
  return `${count.toLocaleString('en')} ${one}${count === 1 ? '' : 's'}`
}

export function Waiting({ rows = 4 }: { rows?: number }): ReactNode {
  return (
    <Stack gap="xs" aria-busy="true" aria-label="Loading">
      {Array.from({ length: rows }, (_, n) => (
        <Skeleton key={n} h={28} />
      ))}
    </Stack>
  )
}

export function Spinner(): ReactNode {
  return (
    <Group justify="center" py="xl">
      <Loader aria-label="Loading" />
    </Group>
  )
}

/** One fact of a list of facts. */
export function Fact({ name, children }: { name: string; children: ReactNode }): ReactNode {
  return (
    <Box miw={0}>
      <Text size="xs" c="dimmed" component="dt">
        {name}
      </Text>
      <Text size="sm" component="dd" m={0} style={{ overflowWrap: 'anywhere' }}>
        {children}
      </Text>
    </Box>
  )
}

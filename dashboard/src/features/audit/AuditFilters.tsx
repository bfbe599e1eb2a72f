import { Button, Select, TextInput } from '@mantine/core'
import type { ReactNode } from 'react'
import type { AuditQuery } from '../../api/queries'
import { useTyped } from '../../state/useDebouncedField'
import { FilterBar } from '../../ui/FilterBar'

const OUTCOMES = ['executed', 'noop', 'rejected', 'timeout', 'offline', 'mismatch', 'error', 'late_ack', 'healed', 'done']
const SOURCES = ['api', 'ws', 'schedule', 'automation', 'homekit', 'alexa', 'home_assistant', 'device', 'system']

/** What a time field says, as the server wants it. */
export const instant = (local: string): string => {
  const time = new Date(local)
  return local === '' || Number.isNaN(time.getTime()) ? '' : time.toISOString()
}

const local = (iso: string): string => {
  const time = Date.parse(iso)
  if (!Number.isFinite(time)) return ''
  return new Date(time - new Date(time).getTimezoneOffset() * 60_000).toISOString().slice(0, 16)
}

/** In whose time the fields are. */
const ZONE = new Intl.DateTimeFormat().resolvedOptions().timeZone

const NONE: AuditQuery = { actor: '', device: '', action: '', outcome: '', source: '', since: '', until: '' }

interface FiltersProps {
  query: AuditQuery
  update: (members: Partial<AuditQuery>) => void
}

/** Which rows of the audit. */
export function Filters({ query, update }: FiltersProps): ReactNode {
  const [action, setAction] = useTyped(query.action, (next) => update({ action: next }))
  const [device, setDevice] = useTyped(query.device, (next) => update({ device: next }))
  const [actor, setActor] = useTyped(query.actor, (next) => update({ actor: next }))
  const used = Object.values(query).filter((value) => value !== '').length
  return (
    <FilterBar used={used} align="flex-end">
      <TextInput label="Action" placeholder="set_relay, device., security." value={action} onChange={(e) => setAction(e.currentTarget.value)} w={190} maxLength={64} />
      <TextInput label="Device" placeholder="uid" value={device} onChange={(e) => setDevice(e.currentTarget.value)} w={180} maxLength={64} />
      <TextInput label="Account" placeholder="e-mail or id" value={actor} onChange={(e) => setActor(e.currentTarget.value)} w={200} maxLength={254} />
      <Select label="Outcome" data={[{ value: '', label: 'any' }, ...OUTCOMES]} value={query.outcome} onChange={(next) => update({ outcome: next ?? '' })} w={130} allowDeselect={false} />
      <Select label="Source" data={[{ value: '', label: 'any' }, ...SOURCES]} value={query.source} onChange={(next) => update({ source: next ?? '' })} w={150} allowDeselect={false} />
      <TextInput label="Since" title={`in the time of ${ZONE}`} type="datetime-local" value={local(query.since)} onChange={(e) => update({ since: instant(e.currentTarget.value) })} w={200} />
      <TextInput label="Until" title={`in the time of ${ZONE}`} type="datetime-local" value={local(query.until)} onChange={(e) => update({ until: instant(e.currentTarget.value) })} w={200} />
      {used > 0 && (
        <Button variant="subtle" onClick={() => update(NONE)}>
          Clear
        </Button>
      )}
    </FilterBar>
  )
}

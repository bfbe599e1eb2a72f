import { Button, Select, TextInput } from '@mantine/core'
import type { ReactNode } from 'react'
import { useDebouncedField } from '../../state/useDebouncedField'
import { FilterBar } from '../../ui/FilterBar'
import { type AuditQuery, NO_AUDIT_FILTER } from './queries'

const OUTCOMES = ['executed', 'noop', 'rejected', 'timeout', 'offline', 'mismatch', 'error', 'late_ack', 'healed', 'done']
const SOURCES = ['api', 'ws', 'schedule', 'automation', 'homekit', 'alexa', 'home_assistant', 'device', 'system']

/** The value of a time field as an instant; empty for none. */
export const toInstant = (local: string): string => {
  const time = new Date(local)
  return local === '' || Number.isNaN(time.getTime()) ? '' : time.toISOString()
}

/** An instant as the value of a time field, in the browser's zone. */
const toLocal = (iso: string): string => {
  const time = Date.parse(iso)
  if (!Number.isFinite(time)) return ''
  return new Date(time - new Date(time).getTimezoneOffset() * 60_000).toISOString().slice(0, 16)
}

/** The time zone of the fields. */
const ZONE = new Intl.DateTimeFormat().resolvedOptions().timeZone

interface AuditFiltersProps {
  query: AuditQuery
  update: (members: Partial<AuditQuery>) => void
}

/** The filters of the audit log. */
export function AuditFilters({ query, update }: AuditFiltersProps): ReactNode {
  const [action, setAction] = useDebouncedField(query.action, (next) => update({ action: next }))
  const [device, setDevice] = useDebouncedField(query.device, (next) => update({ device: next }))
  const [actor, setActor] = useDebouncedField(query.actor, (next) => update({ actor: next }))
  const count = Object.values(query).filter((value) => value !== '').length
  return (
    <FilterBar count={count} align="flex-end">
      <TextInput label="Action" placeholder="set_relay, device., security." value={action} onChange={(e) => setAction(e.currentTarget.value)} w={190} maxLength={64} />
      <TextInput label="Device" placeholder="uid" value={device} onChange={(e) => setDevice(e.currentTarget.value)} w={180} maxLength={64} />
      <TextInput label="Account" placeholder="e-mail or id" value={actor} onChange={(e) => setActor(e.currentTarget.value)} w={200} maxLength={254} />
      <Select label="Outcome" data={[{ value: '', label: 'any' }, ...OUTCOMES]} value={query.outcome} onChange={(next) => update({ outcome: next ?? '' })} w={130} allowDeselect={false} />
      <Select label="Source" data={[{ value: '', label: 'any' }, ...SOURCES]} value={query.source} onChange={(next) => update({ source: next ?? '' })} w={150} allowDeselect={false} />
      <TextInput label="Since" title={`in the time zone ${ZONE}`} type="datetime-local" value={toLocal(query.since)} onChange={(e) => update({ since: toInstant(e.currentTarget.value) })} w={200} />
      <TextInput label="Until" title={`in the time zone ${ZONE}`} type="datetime-local" value={toLocal(query.until)} onChange={(e) => update({ until: toInstant(e.currentTarget.value) })} w={200} />
      {count > 0 && (
        <Button variant="subtle" onClick={() => update(NO_AUDIT_FILTER)}>
          Clear filters
        </Button>
      )}
    </FilterBar>
  )
}

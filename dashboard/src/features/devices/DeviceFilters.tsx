import { Button, Select, Switch, TextInput } from '@mantine/core'
import { IconSearch } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import type { DeviceQuery } from '../../api/queries'
import type { DEVICE_SEARCH } from '../../router'
import { useTyped } from '../../state/useDebouncedField'
import { FilterBar } from '../../ui/FilterBar'

/** What the address says: filters as text, those of no effect left out. */
export type DeviceSearch = { [key in (typeof DEVICE_SEARCH)[number]]?: string }

const CLASSES = ['relay_controller', 'ir_hub', 'sensor_hub', 'hybrid']

const among = <T extends string>(text: string | undefined, known: readonly T[]): T | '' => known.find((one) => one === text) ?? ''

/** What the server is asked for; what nobody knows is no filter. */
export function asQuery(search: DeviceSearch, admin: boolean): DeviceQuery {
  const all = admin && search.scope !== 'own'
  return {
    all,
    search: (search.search ?? '').trim(),
    presence: among(search.presence, ['online', 'stale', 'offline']),
    device_class: among(search.device_class, CLASSES),
    claimed: all ? among(search.claimed, ['true', 'false']) : '',
    owner: all ? (search.owner ?? '') : '',
    sort: among(search.sort, ['name']),
  }
}

/** Something is left out by it. */
export const isFiltered = (query: DeviceQuery): boolean =>
  query.search !== '' || query.presence !== '' || query.device_class !== '' || query.claimed !== '' || query.owner !== ''

interface FiltersProps {
  query: DeviceQuery
  admin: boolean
  update: (members: DeviceSearch) => void
}

/** The filters above the list. */
export function Filters({ query, admin, update }: FiltersProps): ReactNode {
  const [text, setText] = useTyped(query.search, (next) => update({ search: next }))
  const used = [query.presence, query.device_class, query.claimed, query.owner].filter((value) => value !== '').length
  const search = (
    <TextInput
      leftSection={<IconSearch size={16} aria-hidden />}
      placeholder={query.all ? 'Name, uid, model, owner' : 'Name, relay, uid, serial, model'}
      aria-label="Search devices"
      value={text}
      maxLength={128}
      onChange={(e) => setText(e.currentTarget.value)}
      flex={{ base: 1, xs: '0 0 260px' }}
    />
  )
  return (
    <FilterBar used={used} first={search}>
      <Select
        aria-label="Connection"
        data={[{ value: '', label: 'Online or not' }, { value: 'online', label: 'Online' }, { value: 'stale', label: 'Stale' }, { value: 'offline', label: 'Offline' }]}
        value={query.presence}
        onChange={(next) => update({ presence: next ?? '' })}
        w={150}
        allowDeselect={false}
      />
      <Select
        aria-label="Class"
        data={[{ value: '', label: 'Every class' }, ...CLASSES.map((name) => ({ value: name, label: name.replace('_', ' ') }))]}
        value={query.device_class}
        onChange={(next) => update({ device_class: next ?? '' })}
        w={160}
        allowDeselect={false}
      />
      {query.all && (
        <Select
          aria-label="Owner"
          data={[{ value: '', label: 'Claimed or not' }, { value: 'true', label: 'Claimed' }, { value: 'false', label: 'Unclaimed' }]}
          value={query.claimed}
          onChange={(next) => update({ claimed: next ?? '' })}
          w={150}
          allowDeselect={false}
        />
      )}
      {query.owner !== '' && (
        <Button variant="default" onClick={() => update({ owner: '' })} aria-label="One account only: show all">
          One account only ✕
        </Button>
      )}
      {admin && <Switch label="Only mine" checked={!query.all} onChange={(e) => update({ scope: e.currentTarget.checked ? 'own' : '', owner: '', claimed: '' })} />}
    </FilterBar>
  )
}

import { Button, Select, Switch, TextInput } from '@mantine/core'
import { IconSearch } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import { useDebouncedField } from '../../state/useDebouncedField'
import { FilterBar } from '../../ui/FilterBar'
import { DEVICE_CLASSES, type DeviceSearch } from './deviceSearch'
import type { DeviceQuery } from './queries'

interface DeviceFiltersProps {
  query: DeviceQuery
  admin: boolean
  update: (members: DeviceSearch) => void
}

/** The filters of the device list. */
export function DeviceFilters({ query, admin, update }: DeviceFiltersProps): ReactNode {
  const [text, setText] = useDebouncedField(query.search, (next) => update({ search: next }))
  const count = [query.presence, query.device_class, query.claimed, query.owner].filter((value) => value !== '').length
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
    <FilterBar count={count} first={search}>
      <Select
        aria-label="Connection"
        data={[{ value: '', label: 'Online or offline' }, { value: 'online', label: 'Online' }, { value: 'stale', label: 'Stale' }, { value: 'offline', label: 'Offline' }]}
        value={query.presence}
        onChange={(next) => update({ presence: next ?? '' })}
        w={150}
        allowDeselect={false}
      />
      <Select
        aria-label="Class"
        data={[{ value: '', label: 'All classes' }, ...DEVICE_CLASSES.map((name) => ({ value: name, label: name.replace('_', ' ') }))]}
        value={query.device_class}
        onChange={(next) => update({ device_class: next ?? '' })}
        w={160}
        allowDeselect={false}
      />
      {query.all && (
        <Select
          aria-label="Owner"
          data={[{ value: '', label: 'Claimed or unclaimed' }, { value: 'true', label: 'Claimed' }, { value: 'false', label: 'Unclaimed' }]}
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

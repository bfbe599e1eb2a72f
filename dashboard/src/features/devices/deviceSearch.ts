/** What the address of the device list says. */
import type { DeviceQuery } from './queries'

export const DEVICE_SEARCH_KEYS = ['search', 'presence', 'device_class', 'claimed', 'scope', 'owner', 'sort'] as const

/** Filters as text; filters that are off are left out. */
export type DeviceSearch = { [key in (typeof DEVICE_SEARCH_KEYS)[number]]?: string }

export const DEVICE_CLASSES = ['relay_controller', 'ir_hub', 'sensor_hub', 'hybrid']

const oneOf = <T extends string>(text: string | undefined, known: readonly T[]): T | '' => known.find((one) => one === text) ?? ''

/** The request for a list; unknown values are no filter. */
export function toDeviceQuery(search: DeviceSearch, admin: boolean): DeviceQuery {
  const all = admin && search.scope !== 'own'
  return {
    all,
    search: (search.search ?? '').trim(),
    presence: oneOf(search.presence, ['online', 'stale', 'offline']),
    device_class: oneOf(search.device_class, DEVICE_CLASSES),
    claimed: all ? oneOf(search.claimed, ['true', 'false']) : '',
    owner: all ? (search.owner ?? '') : '',
    sort: oneOf(search.sort, ['name']),
  }
}

/** Whether a filter is on. */
export const isFiltered = (query: DeviceQuery): boolean =>
  query.search !== '' || query.presence !== '' || query.device_class !== '' || query.claimed !== '' || query.owner !== ''

/** The parameters that are not empty. */
export const withoutUnset = (search: DeviceSearch): DeviceSearch =>
  Object.fromEntries(DEVICE_SEARCH_KEYS.flatMap((key) => (search[key] === undefined || search[key] === '' ? [] : [[key, search[key]]])))

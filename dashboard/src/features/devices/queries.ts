/** What the pages of devices request. */
import { infiniteQueryOptions, queryOptions } from '@tanstack/react-query'
import { api, type Device, unwrap, unwrapList, validate } from '../../api/client'
import { booleanParameter, cursorPages, PAGE_SIZE, withoutEmpty } from '../../api/pagination'

export interface DeviceQuery {
  /** The devices of every account; for admins only. */
  all: boolean
  search: string
  presence: '' | 'online' | 'stale' | 'offline'
  device_class: string
  claimed: '' | 'true' | 'false'
  /** The id of an account; only together with `all`. */
  owner: string
  sort: '' | 'name'
}

export const OWN_DEVICES: DeviceQuery = { all: false, search: '', presence: '', device_class: '', claimed: '', owner: '', sort: 'name' }

/** Whether a device has the members that every page uses. */
const isDevice = (device: Device): boolean => typeof device.uid === 'string' && Array.isArray(device.relays) && Array.isArray(device.capabilities)

/** Requests one page of devices. */
export const fetchDevicePage = async (query: DeviceQuery, cursor: string, signal: AbortSignal) => {
  const page = await unwrapList(
    api().GET('/api/v1/devices', {
      signal,
      params: {
        query: withoutEmpty({
          limit: PAGE_SIZE,
          cursor,
          all: query.all ? true : undefined,
          search: query.search,
          online: query.presence === '' ? undefined : query.presence !== 'offline',
          stale: query.presence === 'stale' ? true : undefined,
          device_class: query.device_class as never,
          claimed: booleanParameter(query.claimed),
          owner: query.owner,
          sort: query.sort,
        }),
      },
    }),
  )
  return validate(page, ({ items }) => items.every(isDevice))
}

export const devicesQuery = (query: DeviceQuery) =>
  infiniteQueryOptions({
    queryKey: ['devices', query],
    queryFn: ({ signal, pageParam }) => fetchDevicePage(query, pageParam, signal),
    ...cursorPages,
  })

/** The first few devices that match a search. */
export const deviceSearchQuery = (search: string, all: boolean) =>
  queryOptions({
    queryKey: ['devices', 'search', search, all],
    queryFn: ({ signal }) => {
      const query = withoutEmpty({ limit: 8, search, all: all ? true : undefined, sort: 'name' as const })
      return unwrapList(api().GET('/api/v1/devices', { signal, params: { query } }))
    },
  })

export const deviceQuery = (uid: string) =>
  queryOptions({
    queryKey: ['device', uid],
    queryFn: async ({ signal }) => validate(await unwrap(api().GET('/api/v1/devices/{uid}', { signal, params: { path: { uid } } })), isDevice),
    refetchInterval: 30_000,
  })

/** The history of a device by pages, for `useTimeline`. */
export const historyPages = (uid: string) => ({
  key: ['history', uid],
  page: (cursor: string, signal: AbortSignal) =>
    unwrapList(api().GET('/api/v1/devices/{uid}/history', { signal, params: { path: { uid }, query: withoutEmpty({ limit: 25, cursor }) } })),
})

export const grantsQuery = (uid: string) =>
  queryOptions({
    queryKey: ['grants', uid],
    queryFn: ({ signal }) => unwrapList(api().GET('/api/v1/devices/{uid}/grants', { signal, params: { path: { uid } } })),
  })

/** What pages ask for; one key for each, so that a change knows what to ask for anew. */
import { infiniteQueryOptions, QueryClient, queryOptions } from '@tanstack/react-query'
import { registration } from './session/authRequests'
import { api, ask, askList, askText, type Device, type Invitation, shaped } from './client'
import { ApiError } from './error'

/** There was no answer at all. */
const AGAIN = new Set(['unreachable', 'no_answer'])

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      // An answer of the server is an answer; what did not come is asked for again.
      retry: (count, error) => count < 2 && (!(error instanceof ApiError) || AGAIN.has(error.code) || error.status >= 502),
      retryDelay: (count) => 500 * 2 ** count,
      refetchOnWindowFocus: true,
      // What the browser thinks of the network is no reason not to ask, and nothing that was clicked is done later.
      networkMode: 'always',
    },
    mutations: { retry: false, networkMode: 'always' },
  },
})

const PAGE = 50

/** What was left out is no parameter. */
function given<T extends Record<string, unknown>>(query: T): { [K in keyof T]?: Exclude<T[K], '' | null | undefined> } {
  const kept = Object.entries(query).filter(([, value]) => value !== '' && value !== null && value !== undefined)
  return Object.fromEntries(kept) as { [K in keyof T]?: Exclude<T[K], '' | null | undefined> }
}

const pages = { initialPageParam: '', getNextPageParam: (last: { next_cursor?: string | null }) => last.next_cursor ?? undefined }

export interface DeviceQuery {
  /** Everybody's; for admins. */
  all: boolean
  search: string
  presence: '' | 'online' | 'stale' | 'offline'
  device_class: string
  claimed: '' | 'true' | 'false'
  /** An account's id; for admins, of everybody's. */
  owner: string
  sort: '' | 'name'
}

const flag = (text: '' | 'true' | 'false'): boolean | undefined => (text === '' ? undefined : text === 'true')

export const OWN_DEVICES: DeviceQuery = { all: false, search: '', presence: '', device_class: '', claimed: '', owner: '', sort: 'name' }

/** What pages take for granted of a device. */
const isDevice = (device: Device): boolean => typeof device.uid === 'string' && Array.isArray(device.relays) && Array.isArray(device.capabilities)

/** One page of devices. */
export const devicePage = async (query: DeviceQuery, cursor: string, signal: AbortSignal) => {
  const page = await askList(
    api().GET('/api/v1/devices', {
      signal,
      params: {
        query: given({
          limit: PAGE,
          cursor,
          all: query.all ? true : undefined,
          search: query.search,
          online: query.presence === '' ? undefined : query.presence !== 'offline',
          stale: query.presence === 'stale' ? true : undefined,
          device_class: query.device_class as never,
          claimed: flag(query.claimed),
          owner: query.owner,
          sort: query.sort,
        }),
      },
    }),
  )
  return shaped(page, ({ items }) => items.every(isDevice))
}

export const devicesQuery = (query: DeviceQuery) =>
  infiniteQueryOptions({
    queryKey: ['devices', query],
    queryFn: ({ signal, pageParam }) => devicePage(query, pageParam, signal),
    ...pages,
  })

/** The first few devices that these words find. */
export const deviceJumpQuery = (search: string, all: boolean) =>
  queryOptions({
    queryKey: ['devices', 'jump', search, all],
    queryFn: ({ signal }) => askList(api().GET('/api/v1/devices', { signal, params: { query: given({ limit: 8, search, all: all ? true : undefined, sort: 'name' as const }) } })),
  })

export const deviceQuery = (uid: string) =>
  queryOptions({
    queryKey: ['device', uid],
    queryFn: async ({ signal }) => shaped(await ask(api().GET('/api/v1/devices/{uid}', { signal, params: { path: { uid } } })), isDevice),
    refetchInterval: 30_000,
  })

/** What happened, by pages; for `useTimeline`. */
export const historyPages = (uid: string) => ({
  key: ['history', uid],
  page: (cursor: string, signal: AbortSignal) =>
    askList(api().GET('/api/v1/devices/{uid}/history', { signal, params: { path: { uid }, query: given({ limit: 25, cursor }) } })),
})

export const grantsQuery = (uid: string) =>
  queryOptions({
    queryKey: ['grants', uid],
    queryFn: ({ signal }) => askList(api().GET('/api/v1/devices/{uid}/grants', { signal, params: { path: { uid } } })),
  })

export const fleetQuery = queryOptions({
  queryKey: ['fleet'],
  queryFn: async ({ signal }) =>
    shaped(await ask(api().GET('/api/v1/admin/fleet', { signal })), (f) => f.commands.samples.length >= 0 && f.devices.total >= 0 && f.users.total >= 0),
  refetchInterval: 5_000,
  staleTime: 2_000,
})

export interface AuditQuery {
  actor: string
  device: string
  action: string
  outcome: string
  source: string
  since: string
  until: string
}

export const auditParameters = (query: AuditQuery) => given({ ...query })

const auditPage = (query: AuditQuery, limit: number, cursor: string, signal: AbortSignal) =>
  askList(api().GET('/api/v1/admin/audit', { signal, params: { query: { limit, ...given({ cursor }), ...auditParameters(query) } as never } }))

export const auditPages = (query: AuditQuery) => ({
  key: ['audit', query],
  page: (cursor: string, signal: AbortSignal) => auditPage(query, 50, cursor, signal),
})

const EVERYTHING: AuditQuery = { actor: '', device: '', action: '', outcome: '', source: '', since: '', until: '' }

export const latestQuery = queryOptions({
  queryKey: ['audit', 'latest'],
  queryFn: ({ signal }) => auditPage(EVERYTHING, 10, '', signal),
  refetchInterval: 5_000,
})

export interface UserQuery {
  search: string
  role: '' | 'user' | 'admin'
  active: '' | 'true' | 'false'
}

export const usersQuery = (query: UserQuery) =>
  infiniteQueryOptions({
    queryKey: ['users', query],
    queryFn: ({ signal, pageParam }) =>
      askList(
        api().GET('/api/v1/admin/users', {
          signal,
          params: { query: given({ limit: PAGE, cursor: pageParam, search: query.search, role: query.role, active: flag(query.active) }) },
        }),
      ),
    ...pages,
  })

export interface InvitationQuery {
  state: '' | Invitation['state']
}

export const invitationsQuery = (query: InvitationQuery) =>
  infiniteQueryOptions({
    queryKey: ['invitations', query],
    queryFn: ({ signal, pageParam }) =>
      askList(api().GET('/api/v1/admin/invitations', { signal, params: { query: given({ limit: PAGE, cursor: pageParam, state: query.state }) } })),
    ...pages,
  })

/** Who may make an account at this server (empty: the page's own one); asked before anybody is signed in. */
export const registrationQuery = (base: string) =>
  queryOptions({ queryKey: ['registration', base], queryFn: ({ signal }) => registration(base, signal), refetchOnWindowFocus: false })

export const userQuery = (id: string) =>
  queryOptions({
    queryKey: ['user', id],
    queryFn: async ({ signal }) =>
      shaped(await ask(api().GET('/api/v1/admin/users/{id}', { signal, params: { path: { id } } })), (user) => typeof user.email === 'string'),
  })

export const userSessionsQuery = (id: string) =>
  queryOptions({
    queryKey: ['user', id, 'sessions'],
    queryFn: ({ signal }) => askList(api().GET('/api/v1/admin/users/{id}/sessions', { signal, params: { path: { id } } })),
  })

export const userTokensQuery = (id: string) =>
  queryOptions({
    queryKey: ['user', id, 'tokens'],
    queryFn: ({ signal }) => askList(api().GET('/api/v1/admin/users/{id}/tokens', { signal, params: { path: { id } } })),
  })

export const sessionsQuery = queryOptions({
  queryKey: ['sessions'],
  queryFn: ({ signal }) => askList(api().GET('/api/v1/auth/sessions', { signal })),
})

export const tokensQuery = queryOptions({
  queryKey: ['tokens'],
  queryFn: ({ signal }) => askList(api().GET('/api/v1/auth/tokens', { signal })),
})

export const pluginsQuery = queryOptions({
  queryKey: ['plugins'],
  queryFn: ({ signal }) => askList(api().GET('/api/v1/admin/plugins', { signal })),
  refetchInterval: 15_000,
})

export const faultsQuery = (id: string) =>
  queryOptions({
    queryKey: ['plugins', id, 'faults'],
    queryFn: ({ signal }) => askList(api().GET('/api/v1/admin/plugins/{id}/faults', { signal, params: { path: { id }, query: { limit: 20 } } })),
    refetchInterval: 15_000,
  })

export const metricsQuery = queryOptions({
  queryKey: ['metrics'],
  queryFn: async ({ signal }) => ({ at: Date.now(), text: await (await askText('/metrics', signal)).text() }),
  refetchInterval: 5_000,
  staleTime: 0,
})

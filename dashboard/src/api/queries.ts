/** What pages ask for; one key for each, so that a change knows what to ask for anew. */
import { infiniteQueryOptions, QueryClient, queryOptions } from '@tanstack/react-query'
import { api, ask, askText } from './client'
import { ApiError } from './error'

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      // An answer of the server is an answer; what did not come is asked for again.
      retry: (count, error) => count < 2 && (!(error instanceof ApiError) || error.unanswered || error.status >= 502),
      retryDelay: (count) => 500 * 2 ** count,
      refetchOnWindowFocus: true,
    },
    mutations: { retry: false },
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
  all: boolean
  search: string
  online: '' | 'true' | 'false'
  device_class: string
  claimed: '' | 'true' | 'false'
}

const flag = (text: '' | 'true' | 'false'): boolean | undefined => (text === '' ? undefined : text === 'true')

export const devicesQuery = (query: DeviceQuery) =>
  infiniteQueryOptions({
    queryKey: ['devices', query],
    queryFn: ({ signal, pageParam }) =>
      ask(
        api().GET('/api/v1/devices', {
          signal,
          params: {
            query: given({
              limit: PAGE,
              cursor: pageParam,
              all: query.all ? true : undefined,
              search: query.search,
              online: flag(query.online),
              device_class: query.device_class as never,
              claimed: flag(query.claimed),
            }),
          },
        }),
      ),
    ...pages,
  })

export const deviceQuery = (uid: string) =>
  queryOptions({
    queryKey: ['device', uid],
    queryFn: ({ signal }) => ask(api().GET('/api/v1/devices/{uid}', { signal, params: { path: { uid } } })),
    refetchInterval: 30_000,
  })

export const historyQuery = (uid: string) =>
  infiniteQueryOptions({
    queryKey: ['history', uid],
    queryFn: ({ signal, pageParam }) =>
      ask(
        api().GET('/api/v1/devices/{uid}/history', {
          signal,
          params: { path: { uid }, query: given({ limit: 25, cursor: pageParam }) },
        }),
      ),
    ...pages,
  })

export const grantsQuery = (uid: string) =>
  queryOptions({
    queryKey: ['grants', uid],
    queryFn: ({ signal }) => ask(api().GET('/api/v1/devices/{uid}/grants', { signal, params: { path: { uid } } })),
  })

export const fleetQuery = queryOptions({
  queryKey: ['fleet'],
  queryFn: ({ signal }) => ask(api().GET('/api/v1/admin/fleet', { signal })),
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

export const auditQuery = (query: AuditQuery, limit = 50) =>
  infiniteQueryOptions({
    queryKey: ['audit', query, limit],
    queryFn: ({ signal, pageParam }) =>
      ask(
        api().GET('/api/v1/admin/audit', {
          signal,
          params: { query: { limit, ...given({ cursor: pageParam }), ...auditParameters(query) } as never },
        }),
      ),
    ...pages,
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
      ask(
        api().GET('/api/v1/admin/users', {
          signal,
          params: { query: given({ limit: PAGE, cursor: pageParam, search: query.search, role: query.role, active: flag(query.active) }) },
        }),
      ),
    ...pages,
  })

export const sessionsQuery = queryOptions({
  queryKey: ['sessions'],
  queryFn: ({ signal }) => ask(api().GET('/api/v1/auth/sessions', { signal })),
})

export const tokensQuery = queryOptions({
  queryKey: ['tokens'],
  queryFn: ({ signal }) => ask(api().GET('/api/v1/auth/tokens', { signal })),
})

export const pluginsQuery = queryOptions({
  queryKey: ['plugins'],
  queryFn: ({ signal }) => ask(api().GET('/api/v1/admin/plugins', { signal })),
  refetchInterval: 15_000,
})

export const metricsQuery = queryOptions({
  queryKey: ['metrics'],
  queryFn: async ({ signal }) => ({ at: Date.now(), text: await (await askText('/metrics', signal)).text() }),
  refetchInterval: 5_000,
  staleTime: 0,
})

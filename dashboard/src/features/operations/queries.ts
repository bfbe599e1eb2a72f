/** What the overview and the pages of metrics, plugins and background work request. */
import { queryOptions } from '@tanstack/react-query'
import { api, fetchText, unwrap, unwrapList, validate } from '../../api/client'

export const fleetQuery = queryOptions({
  queryKey: ['fleet'],
  queryFn: async ({ signal }) => {
    const fleet = await unwrap(api().GET('/api/v1/admin/fleet', { signal }))
    return validate(fleet, (f) => f.commands.samples.length >= 0 && f.devices.total >= 0 && f.users.total >= 0)
  },
  refetchInterval: 5_000,
  staleTime: 2_000,
})

export const pluginsQuery = queryOptions({
  queryKey: ['plugins'],
  queryFn: ({ signal }) => unwrapList(api().GET('/api/v1/admin/plugins', { signal })),
  refetchInterval: 15_000,
})

export const faultsQuery = (id: string) =>
  queryOptions({
    queryKey: ['plugins', id, 'faults'],
    queryFn: ({ signal }) => unwrapList(api().GET('/api/v1/admin/plugins/{id}/faults', { signal, params: { path: { id }, query: { limit: 20 } } })),
    refetchInterval: 15_000,
  })

export const workersQuery = queryOptions({
  queryKey: ['workers'],
  queryFn: async ({ signal }) => {
    const workers = await unwrap(api().GET('/api/v1/admin/workers', { signal }))
    return validate(workers, (w) => w.items.length >= 0)
  },
  refetchInterval: 5_000,
})

/** The text of `/metrics`, and when it was read. */
export const metricsQuery = queryOptions({
  queryKey: ['metrics'],
  queryFn: async ({ signal }) => ({ at: Date.now(), text: await (await fetchText('/metrics', signal)).text() }),
  refetchInterval: 5_000,
  staleTime: 0,
})

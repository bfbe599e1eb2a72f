/** What the audit page and the overview request. */
import { queryOptions } from '@tanstack/react-query'
import { api, unwrapList } from '../../api/client'
import { PAGE_SIZE, withoutEmpty } from '../../api/pagination'

export interface AuditQuery {
  actor: string
  device: string
  action: string
  outcome: string
  source: string
  since: string
  until: string
}

export const NO_AUDIT_FILTER: AuditQuery = { actor: '', device: '', action: '', outcome: '', source: '', since: '', until: '' }

export const auditParameters = (query: AuditQuery) => withoutEmpty({ ...query })

const fetchAuditPage = (query: AuditQuery, limit: number, cursor: string, signal: AbortSignal) => {
  const parameters = { limit, ...withoutEmpty({ cursor }), ...auditParameters(query) }
  return unwrapList(api().GET('/api/v1/admin/audit', { signal, params: { query: parameters as never } }))
}

/** The audit by pages, for `useTimeline`. */
export const auditPages = (query: AuditQuery) => ({
  key: ['audit', query],
  page: (cursor: string, signal: AbortSignal) => fetchAuditPage(query, PAGE_SIZE, cursor, signal),
})

/** The ten newest rows. */
export const latestAuditQuery = queryOptions({
  queryKey: ['audit', 'latest'],
  queryFn: ({ signal }) => fetchAuditPage(NO_AUDIT_FILTER, 10, '', signal),
  refetchInterval: 5_000,
})

/** What the pages of accounts request. */
import { infiniteQueryOptions, queryOptions } from '@tanstack/react-query'
import { api, type Invitation, unwrap, unwrapList, validate } from '../../api/client'
import { booleanParameter, cursorPages, PAGE_SIZE, withoutEmpty } from '../../api/pagination'
import { fetchRegistration } from '../../api/session'

/** Who may create an account at a server (empty: the page's own); requested before anybody signs in. */
export const registrationQuery = (base: string) =>
  queryOptions({ queryKey: ['registration', base], queryFn: ({ signal }) => fetchRegistration(base, signal), refetchOnWindowFocus: false })

export interface UserQuery {
  search: string
  role: '' | 'user' | 'admin'
  active: '' | 'true' | 'false'
}

export const usersQuery = (query: UserQuery) =>
  infiniteQueryOptions({
    queryKey: ['users', query],
    queryFn: ({ signal, pageParam }) => {
      const { search, role, active } = query
      const parameters = withoutEmpty({ limit: PAGE_SIZE, cursor: pageParam, search, role, active: booleanParameter(active) })
      return unwrapList(api().GET('/api/v1/admin/users', { signal, params: { query: parameters } }))
    },
    ...cursorPages,
  })

export const userQuery = (id: string) =>
  queryOptions({
    queryKey: ['user', id],
    queryFn: async ({ signal }) =>
      validate(await unwrap(api().GET('/api/v1/admin/users/{id}', { signal, params: { path: { id } } })), (user) => typeof user.email === 'string'),
  })

export const userSessionsQuery = (id: string) =>
  queryOptions({
    queryKey: ['user', id, 'sessions'],
    queryFn: ({ signal }) => unwrapList(api().GET('/api/v1/admin/users/{id}/sessions', { signal, params: { path: { id } } })),
  })

export const userTokensQuery = (id: string) =>
  queryOptions({
    queryKey: ['user', id, 'tokens'],
    queryFn: ({ signal }) => unwrapList(api().GET('/api/v1/admin/users/{id}/tokens', { signal, params: { path: { id } } })),
  })

export const sessionsQuery = queryOptions({
  queryKey: ['sessions'],
  queryFn: ({ signal }) => unwrapList(api().GET('/api/v1/auth/sessions', { signal })),
})

export const tokensQuery = queryOptions({
  queryKey: ['tokens'],
  queryFn: ({ signal }) => unwrapList(api().GET('/api/v1/auth/tokens', { signal })),
})

export interface InvitationQuery {
  state: '' | Invitation['state']
}

export const invitationsQuery = (query: InvitationQuery) =>
  infiniteQueryOptions({
    queryKey: ['invitations', query],
    queryFn: ({ signal, pageParam }) => {
      const parameters = withoutEmpty({ limit: PAGE_SIZE, cursor: pageParam, state: query.state })
      return unwrapList(api().GET('/api/v1/admin/invitations', { signal, params: { query: parameters } }))
    },
    ...cursorPages,
  })

import {
  createBrowserHistory, createRootRoute, createRoute, createRouter, type ErrorComponentProps, lazyRouteComponent, Navigate, useMatches, useRouter,
} from '@tanstack/react-router'
import { type ReactNode, useEffect } from 'react'
import { again, part, reloadIfReplaced } from './api/lazyModule'
import { PREFIX } from './api/serverUrl'
import { queryClient } from './api/queries'
import { useAdmin } from './state/useSession'
import { Problem } from './ui/ErrorAlert'
import { Shell } from './ui/Shell'
import { Empty, Spinner } from './ui/bits'

const root = createRootRoute({
  component: Shell,
  notFoundComponent: () => <Empty title="There is no such page">The address may be mistyped, or the page has moved.</Empty>,
})

/** The console is for admins; others get their home (the server decides what anybody may do). */
function Start(): ReactNode {
  const admin = useAdmin()
  return <Navigate to={admin ? '/overview' : '/home'} replace />
}

const index = createRoute({ getParentRoute: () => root, path: '/', component: Start })
const home = createRoute({
  getParentRoute: () => root,
  path: '/home',
  component: lazyRouteComponent(() => part(() => import('./features/devices/HomePage')), 'Home'),
})
const overview = createRoute({
  getParentRoute: () => root,
  path: '/overview',
  component: lazyRouteComponent(() => part(() => import('./features/operations/overview/OverviewPage')), 'Overview'),
})
/** The members of an address that are known, as text. */
const texts = <K extends string>(search: Record<string, unknown>, keys: readonly K[]): { [key in K]?: string } =>
  Object.fromEntries(keys.filter((key) => typeof search[key] === 'string').map((key) => [key, search[key]])) as { [key in K]?: string }

/** What the address of the device list may say. */
export const DEVICE_SEARCH = ['search', 'presence', 'device_class', 'claimed', 'scope', 'owner', 'sort'] as const
export const devicesRoute = createRoute({
  getParentRoute: () => root,
  path: '/devices',
  validateSearch: (search) => texts(search, DEVICE_SEARCH),
  component: lazyRouteComponent(() => part(() => import('./features/devices/DevicesPage')), 'Devices'),
})
export const deviceRoute = createRoute({
  getParentRoute: () => root,
  path: '/devices/$uid',
  component: lazyRouteComponent(() => part(() => import('./features/devices/DevicePage')), 'DevicePage'),
})
const users = createRoute({
  getParentRoute: () => root,
  path: '/users',
  component: lazyRouteComponent(() => part(() => import('./features/accounts/users/UsersPage')), 'Users'),
})
export const userRoute = createRoute({
  getParentRoute: () => root,
  path: '/users/$id',
  component: lazyRouteComponent(() => part(() => import('./features/accounts/users/UserPage')), 'UserPage'),
})
const invitations = createRoute({
  getParentRoute: () => root,
  path: '/invitations',
  component: lazyRouteComponent(() => part(() => import('./features/accounts/invitations/InvitationsPage')), 'Invitations'),
})
const plugins = createRoute({
  getParentRoute: () => root,
  path: '/plugins',
  component: lazyRouteComponent(() => part(() => import('./features/operations/plugins/PluginsPage')), 'Plugins'),
})
const AUDIT = ['actor', 'device', 'action', 'outcome', 'source', 'since', 'until'] as const
export const auditRoute = createRoute({
  getParentRoute: () => root,
  path: '/audit',
  validateSearch: (search) => texts(search, AUDIT),
  component: lazyRouteComponent(() => part(() => import('./features/audit/AuditPage')), 'Audit'),
})
const metrics = createRoute({
  getParentRoute: () => root,
  path: '/metrics',
  component: lazyRouteComponent(() => part(() => import('./features/operations/metrics/MetricsPage')), 'Metrics'),
})
const preferences = createRoute({
  getParentRoute: () => root,
  path: '/preferences',
  component: lazyRouteComponent(() => part(() => import('./features/preferences/PreferencesPage')), 'PreferencesPage'),
})
const account = createRoute({
  getParentRoute: () => root,
  path: '/account',
  component: lazyRouteComponent(() => part(() => import('./features/accounts/account/AccountPage')), 'AccountPage'),
})

/** What broke, in the place of the page; a file that was not to be had is asked for again. */
function Broken({ error, reset }: ErrorComponentProps): ReactNode {
  const matches = useMatches()
  const { routesById } = useRouter()
  useEffect(() => void reloadIfReplaced(), [])
  const load = async () => {
    for (const { routeId } of matches) {
      const component = routesById[routeId].options.component as { preload?: () => Promise<void> } | undefined
      await component?.preload?.()
    }
  }
  const retry = async () => {
    // An answer that broke the page is not shown again.
    await queryClient.resetQueries()
    await again(load)
    reset()
  }
  return <Problem thrown={error} retry={() => void retry()} title="This page cannot be shown" />
}

/** Addresses as people write them: every member is text. */
const plainSearch = {
  parseSearch: (text: string): Record<string, string> => Object.fromEntries(new URLSearchParams(text)),
  stringifySearch: (search: Record<string, unknown>): string => {
    const given = Object.entries(search).filter((entry): entry is [string, string] => typeof entry[1] === 'string')
    return given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`
  },
}

const history = createBrowserHistory()
const BASE = `${PREFIX}/dashboard`

/** To the first page, whatever that is for whoever comes. */
export const toBeginning = (): void => history.replace(BASE)

const options = {
  ...plainSearch,
  history,
  routeTree: root.addChildren([index, home, overview, devicesRoute, deviceRoute, users, userRoute, invitations, auditRoute, plugins, metrics, preferences, account]),
  basepath: BASE,
  defaultPreload: 'intent',
  defaultPendingComponent: Spinner,
  defaultErrorComponent: Broken,
} as const

/** A router for one account: it remembers what it has shown. */
export const newRouter = () => createRouter(options)

declare module '@tanstack/react-router' {
  interface Register {
    router: ReturnType<typeof newRouter>
  }
}

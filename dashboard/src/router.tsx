import { createBrowserHistory, createRoute, createRouter, type ErrorComponentProps, Navigate, useMatches, useRouter } from '@tanstack/react-router'
import { type ReactNode, useEffect } from 'react'
import { reloadIfReplaced, retryModules } from './api/lazyModule'
import { queryClient } from './api/queryClient'
import { BASE_PATH } from './api/serverUrl'
import * as features from './features'
import { rootRoute } from './shell/rootRoute'
import { parseSearch, stringifySearch } from './shell/searchParameters'
import { useAdmin } from './state/useSession'
import { ErrorAlert } from './ui/ErrorAlert'
import { Spinner } from './ui/Spinner'

/** The first page: the overview for admins, else the home page. */
function FirstPage(): ReactNode {
  const admin = useAdmin()
  return <Navigate to={admin ? '/overview' : '/home'} replace />
}

const index = createRoute({ getParentRoute: () => rootRoute, path: '/', component: FirstPage })

/** A fault in the place of the page; a file that failed to load is requested again. */
function PageError({ error, reset }: ErrorComponentProps): ReactNode {
  const matches = useMatches()
  const { routesById } = useRouter()
  useEffect(() => void reloadIfReplaced(), [])
  const loadPages = async () => {
    for (const { routeId } of matches) {
      const component = routesById[routeId].options.component as { preload?: () => Promise<void> } | undefined
      await component?.preload?.()
    }
  }
  const retry = async () => {
    // The answer that broke the page must not be shown again.
    await queryClient.resetQueries()
    await retryModules(loadPages)
    reset()
  }
  return <ErrorAlert thrown={error} retry={() => void retry()} title="This page cannot be shown" />
}

const history = createBrowserHistory()
const CONSOLE_PATH = `${BASE_PATH}/dashboard`

/** Goes to the first page, whichever that is for the account. */
export const goToFirstPage = (): void => history.replace(CONSOLE_PATH)

const options = {
  parseSearch,
  stringifySearch,
  history,
  routeTree: rootRoute.addChildren([index, ...Object.values(features).flat()]),
  basepath: CONSOLE_PATH,
  defaultPreload: 'intent',
  defaultPendingComponent: Spinner,
  defaultErrorComponent: PageError,
} as const

/** A router for one account: it remembers what it has shown. */
export const newRouter = () => createRouter(options)

declare module '@tanstack/react-router' {
  interface Register {
    router: ReturnType<typeof newRouter>
  }
}

import { MantineProvider } from '@mantine/core'
import { QueryClientProvider } from '@tanstack/react-query'
import { RouterProvider } from '@tanstack/react-router'
import { setNonce } from 'get-nonce'
import { type ReactNode, useEffect } from 'react'
import { queryClient } from './api/queryClient'
import { session, type SessionState } from './api/session'
import { goToFirstPage, newRouter } from './router'
import { onReconnect } from './state/live'
import { mountNotifications, useNotificationsMounted } from './state/notifications'
import { loadPreferences, usePreferences } from './state/preferences'
import { resetSession } from './state/resetSession'
import { useSession } from './state/useSession'
import { colours, theme } from './theme'
import { ErrorBoundary } from './ui/ErrorBoundary'
import { lazyComponent } from './ui/lazyComponent'
import { Spinner } from './ui/Spinner'

/** Loaded only when it is needed: a signed-in user does not wait for it. */
const Login = lazyComponent(() => import('./features/accounts/LoginPage').then((m) => m.LoginPage), <Spinner />)
/** When the sign-in page is loaded in advance: it must appear after a sign-out even when the server is away. */
const PRELOAD_AFTER_MS = 5_000

const Notifications = lazyComponent(() => import('./ui/NotificationArea').then((m) => m.NotificationArea))

/** The nonce of this page, which the content security policy requires of styles. */
const nonce = document.querySelector<HTMLElement>('meta[property="csp-nonce"]')?.nonce ?? ''
// For the style that stops the page from scrolling behind a dialog.
setNonce(nonce)

// No data of one account is left when the page of the next one is rendered.
session.onEnd(() => {
  resetSession()
  queryClient.clear()
})

const accountKey = (state: SessionState): string | null => (state.status === 'in' ? `${state.base} ${state.user.id}` : null)

let router = newRouter()
/** The account of the current router: another account starts at the first page with a router of its own. */
let lastAccount: string | null = null
session.subscribe(() => {
  const account = accountKey(session.state())
  if (account === null || account === lastAccount) return
  if (lastAccount !== null) {
    goToFirstPage()
    router = newRouter()
  }
  lastAccount = account
})

function SessionView(): ReactNode {
  const state = useSession()
  const account = accountKey(state)
  useEffect(() => {
    if (account === null) return
    void loadPreferences()
    // Changes during the outage were missed.
    const unsubscribe = onReconnect(() => void queryClient.invalidateQueries())
    const preloading = setTimeout(() => {
      Login.preload()
      mountNotifications()
    }, PRELOAD_AFTER_MS)
    return () => {
      clearTimeout(preloading)
      unsubscribe()
    }
  }, [account])
  if (state.status === 'starting') return <Spinner />
  if (state.status === 'out') return <Login why={state.why} />
  return <RouterProvider key={account} router={router} />
}

export function App(): ReactNode {
  const { scheme } = usePreferences().dashboard_settings
  return (
    <MantineProvider
      theme={theme}
      cssVariablesResolver={colours}
      defaultColorScheme="auto"
      {...(scheme === 'auto' ? {} : { forceColorScheme: scheme })}
      getStyleNonce={() => nonce}
    >
      <QueryClientProvider client={queryClient}>
        {useNotificationsMounted() && <Notifications />}
        <ErrorBoundary title="The console stopped working">
          <SessionView />
        </ErrorBoundary>
      </QueryClientProvider>
    </MantineProvider>
  )
}

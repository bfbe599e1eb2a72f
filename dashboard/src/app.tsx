import { MantineProvider } from '@mantine/core'
import { Notifications } from '@mantine/notifications'
import { QueryClientProvider } from '@tanstack/react-query'
import { RouterProvider } from '@tanstack/react-router'
import { setNonce } from 'get-nonce'
import { lazy, type ReactNode, Suspense, useEffect, useSyncExternalStore } from 'react'
import { part } from './api/part'
import { queryClient } from './api/queries'
import { session } from './api/session'
import { router } from './router'
import { onReturn, reset as resetLive } from './state/live'
import { load, reset as resetPreferences, usePreferences } from './state/preferences'
import { colours, theme } from './theme'
import { Spinner } from './ui/bits'
import { Boundary } from './ui/Boundary'

/** Who is signed in does not wait for it. */
const login = () => part(() => import('./pages/Login')).then((m) => ({ default: m.Login }))
const Login = lazy(login)
/** It is there when it is needed, which may be without a server: whoever leaves is to see that they left. */
const LOGIN_AFTER_MS = 5_000

/** The nonce of this page: styles that are made here carry it (DB-1). */
const nonce = document.querySelector<HTMLElement>('meta[property="csp-nonce"]')?.nonce ?? ''
// For the style that keeps the page still behind a dialog.
setNonce(nonce)

export function useSession() {
  return useSyncExternalStore(session.subscribe, session.state)
}

function Inside(): ReactNode {
  const state = useSession()
  const who = state.status === 'in' ? `${state.base} ${state.user.id}` : null
  useEffect(() => {
    if (who === null) return
    // Settings that cannot be read now are those of last time; the preferences page says why.
    load().catch(() => undefined)
    // Whatever changed while nothing was heard.
    const stop = onReturn(() => void queryClient.invalidateQueries())
    const later = setTimeout(() => void login().catch(() => undefined), LOGIN_AFTER_MS)
    return () => {
      clearTimeout(later)
      stop()
      resetLive()
      resetPreferences()
      queryClient.clear()
    }
  }, [who])
  if (state.status === 'starting') return <Spinner />
  if (state.status === 'out')
    return (
      <Boundary title={state.why ?? 'You are signed out'}>
        <Suspense fallback={<Spinner />}>
          <Login why={state.why} />
        </Suspense>
      </Boundary>
    )
  return <RouterProvider router={router} context={{ admin: state.user.role === 'admin' }} />
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
        <Notifications position="bottom-right" limit={4} />
        <Inside />
      </QueryClientProvider>
    </MantineProvider>
  )
}

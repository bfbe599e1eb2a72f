import { MantineProvider } from '@mantine/core'
import { QueryClientProvider } from '@tanstack/react-query'
import { RouterProvider } from '@tanstack/react-router'
import { setNonce } from 'get-nonce'
import { type ReactNode, useEffect } from 'react'
import { queryClient } from './api/queries'
import { session, type SessionState } from './api/session'
import { newRouter, toBeginning } from './router'
import { forget } from './state/resetSession'
import { onReturn } from './state/live'
import { needNotices, useNoticesNeeded } from './state/notifications'
import { load, usePreferences } from './state/preferences'
import { useSession } from './state/useSession'
import { colours, theme } from './theme'
import { Spinner } from './ui/bits'
import { Boundary } from './ui/ErrorBoundary'
import { later } from './ui/lazyComponent'

/** Who is signed in does not wait for it. */
const Login = later(() => import('./features/accounts/LoginPage').then((m) => m.Login), <Spinner />)
/** It is there when it is needed, which may be without a server: whoever leaves is to see that they left. */
const CALM_MS = 5_000

const Notices = later(() => import('./ui/Notifications').then((m) => m.Notices))

/** The nonce of this page: styles that are made here carry it (DB-1). */
const nonce = document.querySelector<HTMLElement>('meta[property="csp-nonce"]')?.nonce ?? ''
// For the style that keeps the page still behind a dialog.
setNonce(nonce)

// Nothing of whoever was here is there any more when the next one's page is drawn.
session.onEnd(() => {
  forget()
  queryClient.clear()
})

const whoIs = (state: SessionState): string | null => (state.status === 'in' ? `${state.base} ${state.user.id}` : null)

let router = newRouter()
/** Who was here last: the address of their page is not the next one's, and what their router has shown neither. */
let last: string | null = null
session.subscribe(() => {
  const who = whoIs(session.state())
  if (who === null || who === last) return
  if (last !== null) {
    toBeginning()
    router = newRouter()
  }
  last = who
})

function Inside(): ReactNode {
  const state = useSession()
  const who = whoIs(state)
  useEffect(() => {
    if (who === null) return
    void load()
    // Whatever changed while nothing was heard.
    const stop = onReturn(() => void queryClient.invalidateQueries())
    const preloading = setTimeout(() => {
      Login.preload()
      needNotices()
    }, CALM_MS)
    return () => {
      clearTimeout(preloading)
      stop()
    }
  }, [who])
  if (state.status === 'starting') return <Spinner />
  if (state.status === 'out') return <Login why={state.why} />
  return <RouterProvider key={who} router={router} />
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
        {useNoticesNeeded() && <Notices />}
        <Boundary title="The console broke">
          <Inside />
        </Boundary>
      </QueryClientProvider>
    </MantineProvider>
  )
}

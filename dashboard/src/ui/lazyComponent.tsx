import { type ComponentType, type ReactNode, useCallback, useEffect, useState } from 'react'
import { lazyModule, reloadIfReplaced, retryModules } from '../api/lazyModule'
import { ErrorAlert } from './ErrorAlert'

/** A component that is loaded when it is first shown; a failure is shown with a button to try again. */
export function lazyComponent<P extends object>(load: () => Promise<ComponentType<P>>, placeholder: ReactNode = null) {
  let loaded: ComponentType<P> | null = null
  const get = async (): Promise<ComponentType<P>> => (loaded ??= await lazyModule(load))
  function Lazy(props: P): ReactNode {
    const [Shown, setShown] = useState<ComponentType<P> | null>(() => loaded)
    const [thrown, setThrown] = useState<unknown>(null)
    const fetch = useCallback(() => {
      get().then(
        (component) => setShown(() => component),
        (error: unknown) => {
          setThrown(error)
          void reloadIfReplaced()
        },
      )
    }, [])
    useEffect(() => {
      if (Shown === null) fetch()
    }, [Shown, fetch])
    if (Shown !== null) return <Shown {...props} />
    if (thrown === null) return placeholder
    return (
      <ErrorAlert
        thrown={thrown}
        retry={() => {
          setThrown(null)
          void retryModules(get).then(fetch)
        }}
      />
    )
  }
  /** Loads it before it is shown. */
  Lazy.preload = () => void get().catch(() => undefined)
  return Lazy
}

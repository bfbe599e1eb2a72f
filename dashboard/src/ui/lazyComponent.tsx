import { type ComponentType, type ReactNode, useCallback, useEffect, useState } from 'react'
import { again, part, reloadIfReplaced } from '../api/lazyModule'
import { Problem } from './ErrorAlert'

/** A component that is loaded when it is shown first; what fails is said, and tried again when somebody says so. */
export function later<P extends object>(load: () => Promise<ComponentType<P>>, waiting: ReactNode = null) {
  let loaded: ComponentType<P> | null = null
  const get = async (): Promise<ComponentType<P>> => (loaded ??= await part(load))
  function Later(props: P): ReactNode {
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
    if (thrown === null) return waiting
    return (
      <Problem
        thrown={thrown}
        retry={() => {
          setThrown(null)
          void again(get).then(fetch)
        }}
      />
    )
  }
  /** Before it is shown. */
  Later.preload = () => void get().catch(() => undefined)
  return Later
}

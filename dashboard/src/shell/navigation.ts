/** The menu: each route that is in it says so itself (`staticData.menu`). */
import type { Icon } from '@tabler/icons-react'
import { type AnyRoute, useRouter } from '@tanstack/react-router'
import { useMemo } from 'react'
import { useAdmin } from '../state/useSession'

interface MenuEntry {
  label: string
  icon: Icon
  /** Lower positions come first. */
  position: number
  /** Only admins see it; the server decides who may read the page's data. */
  admin?: boolean
}

declare module '@tanstack/react-router' {
  interface StaticDataRouteOption {
    menu?: MenuEntry
  }
}

export interface MenuPage extends MenuEntry {
  to: string
}

/** The pages of the menu for the current account, in order. */
export function useMenuPages(): MenuPage[] {
  const admin = useAdmin()
  const { routesById } = useRouter()
  return useMemo(() => {
    const pages = (Object.values(routesById) as AnyRoute[]).flatMap(({ fullPath, options }) => {
      const menu = options.staticData?.menu
      return menu === undefined || (menu.admin === true && !admin) ? [] : [{ ...menu, to: fullPath as string }]
    })
    return pages.sort((a, b) => a.position - b.position)
  }, [admin, routesById])
}

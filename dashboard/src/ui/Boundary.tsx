import { Component, type ReactNode } from 'react'
import { Problem } from './Problem'

/** Whatever breaks inside is said in its place, with a way to try again; the rest of the page stays. */
interface State {
  thrown: unknown
}

export class Boundary extends Component<{ children: ReactNode; title: string }, State> {
  override state: State = { thrown: null }

  static getDerivedStateFromError(thrown: unknown) {
    return { thrown: thrown ?? new Error('something broke') }
  }

  override render(): ReactNode {
    if (this.state.thrown === null) return this.props.children
    // What could not be loaded is remembered as such by React: only a new page tries it again.
    return <Problem thrown={this.state.thrown} title={this.props.title} retry={() => window.location.reload()} />
  }
}

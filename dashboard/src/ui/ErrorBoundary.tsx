import { Component, type ReactNode } from 'react'
import { queryClient } from '../api/queries'
import { Problem } from './ErrorAlert'

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
    // An answer that broke it is not shown again.
    const again = () => void queryClient.resetQueries().then(() => this.setState({ thrown: null }))
    return <Problem thrown={this.state.thrown} title={this.props.title} retry={again} />
  }
}

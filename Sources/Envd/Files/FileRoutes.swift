import Connect
package import ConnectServer
package import Hummingbird

/// Registers the file routes: `/files`, `/files/compose`, and the service `filesystem.Filesystem`.
///
/// `/files` checks token and signature itself; the others rely on the agent's token check.
package func registerFileRoutes(
  on router: Router<AgentRequestContext>, connect: ConnectRouter<AgentRequestContext>, state: GuestState,
  users: UserDatabase
) {
  FilesRoutes(state: state, users: users).register(on: router)
  let service = FilesystemService(state: state, users: users)
  service.register(on: connect)
  WatchService(files: service, watchers: WatcherRegistry()).register(on: connect)
}

/// Keys of log metadata. docs/logging.md lists all keys of the package with their meaning.
///
/// Modules that do not import this one write the keys as literals; a test compares these with the list.
package enum LogKey {
  package static let sandbox = "sandbox.id"
  package static let team = "team.id"
  package static let host = "host.id"
  package static let hostAddress = "host.address"
  package static let snapshot = "snapshot.name"
  package static let status = "sandbox.status"
  package static let reason = "reason"
  package static let error = "error"
  package static let duration = "duration.ms"
  package static let count = "count"
  package static let phases = "phases.ms"
  package static let path = "path"
  package static let rpcMethod = "rpc.method"
  package static let sqlState = "sqlstate"
  package static let text = "text"
}

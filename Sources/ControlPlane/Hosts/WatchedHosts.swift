import HostAPI
import Model

/// The hosts of a control plane, and none while its database belongs to another installation.
struct WatchedHosts: HostDirectory {
  let directory: any HostDirectory
  let watch: InstallationWatch

  func hosts() async -> [any HostClient] { watch.isForeign ? [] : await directory.hosts() }
  func host(_ id: HostID) async -> (any HostClient)? { watch.isForeign ? nil : await directory.host(id) }
  func placeableHosts() async -> [any HostClient] { watch.isForeign ? [] : await directory.placeableHosts() }
}

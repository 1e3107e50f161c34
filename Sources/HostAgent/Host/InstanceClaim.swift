import Glibc
import LinuxSystem
import Model
package import SystemPackage

/// Separates the host agents of one machine: each claims a number, from which its address range, names and user ids
/// follow.
///
/// A number belongs to a data directory until it is released or the directory no longer exists, because sandboxes that
/// outlive their host agent use it. The file `/run/martlet/instance-N` names the directory and is locked while its host
/// agent runs.
package final class InstanceClaim: Sendable {
  package static let maximumInstances = 32

  package let number: Int
  private let registry: FilePath
  private let lock: OwnedDescriptor

  private init(number: Int, registry: FilePath, lock: OwnedDescriptor) {
    self.number = number
    self.registry = registry
    self.lock = lock
  }

  /// Claims the number that belongs to `dataDirectory`, else a free one.
  /// - Throws: `host_unavailable` when another agent runs on this data directory, or all numbers are taken.
  package static func claim(dataDirectory: FilePath, registry: FilePath = "/run/martlet") throws -> InstanceClaim {
    try Directories.create(registry)
    let registryLock = try locked(registry)
    defer { registryLock.close() }
    let numbers = 0..<maximumInstances
    let own = numbers.first { isOwner(of: $0, in: registry, dataDirectory) }
    for number in own.map({ [$0] }) ?? numbers.filter({ isFree($0, in: registry) }) {
      let path = Self.path(of: number, in: registry)
      let file = try OwnedDescriptor.open(path.string, O_RDWR | O_CREAT, mode: 0o600)
      guard flock(file.rawValue, LOCK_EX | LOCK_NB) == 0 else {
        guard own == nil else { throw alreadyRunning(dataDirectory) }
        continue
      }
      try SystemError.check("ftruncate") { ftruncate(file.rawValue, 0) }
      try SmallFile.write(dataDirectory.string, to: path.string)
      return InstanceClaim(number: number, registry: registry, lock: file)
    }
    throw MartletError(
      .hostUnavailable, "\(maximumInstances) Martlet agents run on this machine already; stop one of them")
  }

  /// Releases the number. Allowed only if the data directory holds no sandboxes: running ones use what follows from the
  /// number.
  package func release() throws {
    let registryLock = try Self.locked(registry)
    defer { registryLock.close() }
    unlink(Self.path(of: number, in: registry).string)
    lock.close()
  }

  /// Serializes changes, so that two host agents never both see a number as free. The lock is on the directory itself,
  /// so that no lock file remains.
  private static func locked(_ registry: FilePath) throws(SystemError) -> OwnedDescriptor {
    let directory = try OwnedDescriptor.open(registry.string, O_RDONLY | O_DIRECTORY)
    try SystemError.check("flock", registry.string) { flock(directory.rawValue, LOCK_EX) }
    return directory
  }

  private static func path(of number: Int, in registry: FilePath) -> FilePath {
    registry.appending("instance-\(number)")
  }

  private static func alreadyRunning(_ directory: FilePath) -> MartletError {
    MartletError(
      .hostUnavailable,
      "another Martlet server runs on the data directory \(directory); stop it, or choose another with --data-dir")
  }

  private static func owner(of number: Int, in registry: FilePath) -> String? {
    try? SmallFile.readText(path(of: number, in: registry).string)
  }

  /// Whether the number belongs to the directory, under whatever path: through a symbolic link or a bind mount it is the
  /// same inode.
  private static func isOwner(of number: Int, in registry: FilePath, _ directory: FilePath) -> Bool {
    guard let owner = owner(of: number, in: registry), !owner.isEmpty else { return false }
    guard owner != directory.string else { return true }
    guard let there = try? FileStatus.of(owner, followingLinks: true)?.identity,
      let here = try? FileStatus.of(directory.string, followingLinks: true)?.identity
    else { return false }
    return there.device == here.device && there.inode == here.inode
  }

  private static func isFree(_ number: Int, in registry: FilePath) -> Bool {
    guard let owner = owner(of: number, in: registry), !owner.isEmpty else { return true }
    return access(owner, F_OK) != 0
  }
}

import Glibc
import LinuxSystem
package import Model
package import SystemPackage

/// Separates the host agents of one machine: each claims a number, from which its address range, names and user ids
/// follow.
///
/// A number belongs to a data directory until it is released or the directory no longer exists, because sandboxes that
/// outlive their host agent use it. The file `/run/martlet/instance-N` names the directory and is locked while its host
/// agent runs; `/run/martlet/network-N` holds the range of its sandboxes' addresses, in CIDR form.
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
    let own = try numbers.first { try isOwner(of: $0, in: registry, dataDirectory) }
    for number in try own.map({ [$0] }) ?? numbers.filter({ try isFree($0, in: registry) }) {
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

  /// The number that `dataDirectory` has, or would get; changes nothing.
  package static func expectedNumber(
    dataDirectory: FilePath, registry: FilePath = "/run/martlet"
  ) throws -> Int? {
    let numbers = 0..<maximumInstances
    if let own = try numbers.first(where: { try isOwner(of: $0, in: registry, dataDirectory) }) { return own }
    return try numbers.first { try isFree($0, in: registry) }
  }

  /// Notes the range of this agent's sandboxes, so that no other agent of the machine takes one that overlaps it.
  /// - Throws: `host_unavailable` when another agent has such a range.
  package func reserve(_ range: SandboxNetworkRange) throws {
    let registryLock = try Self.locked(registry)
    defer { registryLock.close() }
    for other in 0..<Self.maximumInstances where other != number {
      guard try !Self.isFree(other, in: registry) else { continue }
      let taken = try Self.range(of: other, in: registry)
      guard taken.network.overlaps(range.network) else { continue }
      throw MartletError(
        .hostUnavailable,
        "the range \(range) overlaps \(taken), which sandboxes of another Martlet server on this machine have; "
          + "choose another with \(SandboxNetworkRange.option)")
    }
    try SmallFile.replace(
      Self.rangePath(of: number, in: registry), with: Array(range.description.utf8), mode: 0o600)
  }

  /// Releases the number. Allowed only if the data directory holds no sandboxes: running ones use what follows from the
  /// number.
  package func release() throws {
    let registryLock = try Self.locked(registry)
    defer { registryLock.close() }
    unlink(Self.rangePath(of: number, in: registry).string)
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

  private static func rangePath(of number: Int, in registry: FilePath) -> FilePath {
    registry.appending("network-\(number)")
  }

  /// The range of an agent; the standard one when the agent has noted none.
  private static func range(of number: Int, in registry: FilePath) throws -> SandboxNetworkRange {
    do {
      return try SandboxNetworkRange(try SmallFile.readText(rangePath(of: number, in: registry).string))
    } catch let error as SystemError where error.errno == .noSuchFileOrDirectory {
      return try .standard(agent: number)
    }
  }

  private static func alreadyRunning(_ directory: FilePath) -> MartletError {
    MartletError(
      .hostUnavailable,
      "another Martlet server runs on the data directory \(directory); stop it, or choose another with --data-dir")
  }

  /// The data directory that a number belongs to; nil when there is no such claim.
  private static func owner(of number: Int, in registry: FilePath) throws(SystemError) -> String? {
    do throws(SystemError) {
      return try SmallFile.readText(path(of: number, in: registry).string)
    } catch {
      guard error.errno == .noSuchFileOrDirectory else { throw error }
      return nil
    }
  }

  /// Whether the number belongs to the directory, under whatever path: through a symbolic link or a bind mount it is the
  /// same inode.
  private static func isOwner(
    of number: Int, in registry: FilePath, _ directory: FilePath
  ) throws(SystemError) -> Bool {
    guard let owner = try owner(of: number, in: registry), !owner.isEmpty else { return false }
    guard owner != directory.string else { return true }
    guard let there = try? FileStatus.of(owner, followingLinks: true)?.identity,
      let here = try? FileStatus.of(directory.string, followingLinks: true)?.identity
    else { return false }
    return there.device == here.device && there.inode == here.inode
  }

  /// Whether nothing uses a number. A data directory that cannot be reached at the moment (EACCES, EIO, ESTALE, …)
  /// still exists: a host agent that took its number would remove the sandboxes that run there.
  private static func isFree(_ number: Int, in registry: FilePath) throws(SystemError) -> Bool {
    guard let owner = try owner(of: number, in: registry), !owner.isEmpty else { return true }
    guard access(owner, F_OK) != 0 else { return false }
    return errno == ENOENT || errno == ENOTDIR
  }
}

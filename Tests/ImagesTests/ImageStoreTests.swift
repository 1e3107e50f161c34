import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Images

/// A store in a temporary directory, which is removed with the value.
final class TemporaryStore {
  let store: ImageStore

  init() throws {
    let directory = FilePath("/tmp/martlet-images-\(UUID().uuidString.lowercased())")
    try Directories.create(directory)
    store = ImageStore(directory: directory)
  }

  deinit {
    try? Directories.removeTree(store.directory)
  }

  /// Adds a template with an image of zeros and returns its manifest.
  @discardableResult
  func add(_ name: SafeName, team: TeamID, digit: Character = "a") throws -> TemplateManifest {
    let digest = try #require(ImageDigest(String(repeating: digit, count: 64)))
    let manifest = TemplateManifest(
      name: name, team: team, digest: digest, imageSizeBytes: 8_192, allocatedBytes: 0, defaultUser: "root",
      defaultWorkdir: "/root",
      envs: ["A": "b"], createdAt: Date(timeIntervalSince1970: 1_700_000_000), agentDigest: digest, kernelVersion: nil,
      recipe: nil)
    let image = store.directory.appending("new.ext4")
    try Data(count: 8_192).write(to: URL(fileURLWithPath: image.string))
    try store.publish(image, as: manifest)
    return manifest
  }

  func removeManifest(_ name: SafeName, team: TeamID) throws {
    try FileManager.default.removeItem(atPath: store.manifestPath(name, team: team).string)
  }
}

@Suite("Image store")
struct ImageStoreTests {
  private let team = TeamID()

  @Test("a team's own template precedes the platform's of the same name")
  func ownFirst() throws {
    let place = try TemporaryStore()
    try place.add(.base, team: .platform, digit: "a")
    #expect(try place.store.template(.base, team: team).team == .platform)
    try place.add(.base, team: team, digit: "b")
    #expect(try place.store.template(.base, team: team).team == team)
    #expect(try place.store.template(.base, team: TeamID()).team == .platform)
  }

  @Test("an unknown template is not_found, with the names of existing templates")
  func unknown() throws {
    let place = try TemporaryStore()
    try place.add(.minimal, team: .platform)
    try place.add(try SafeName("secret"), team: TeamID())
    let error = #expect(throws: MartletError.self) { try place.store.template(try SafeName("nope"), team: team) }
    #expect(error?.code == .notFound)
    #expect(error?.message == "template nope does not exist; there is: minimal")
  }

  @Test("a listing for a team has its own and the platform's templates, a listing for nil has all")
  func listing() throws {
    let place = try TemporaryStore()
    #expect(try place.store.templates(team: team).isEmpty)
    try place.add(.minimal, team: .platform)
    try place.add(try SafeName("mine"), team: team)
    try place.add(try SafeName("theirs"), team: TeamID())
    #expect(try place.store.templates(team: team).map(\.name.value) == ["mine", "minimal"])
    #expect(try place.store.templates(team: nil).map(\.name.value) == ["mine", "minimal", "theirs"])
  }

  @Test("a template whose image is missing or has another size is refused")
  func damagedBlob() throws {
    let place = try TemporaryStore()
    let manifest = try place.add(.minimal, team: .platform)
    let path = place.store.blobPath(manifest.digest).string
    try FileManager.default.removeItem(atPath: path)
    #expect(throws: MartletError.self) { try place.store.template(.minimal, team: team) }
    try Data(count: 4_096).write(to: URL(fileURLWithPath: path))
    let error = #expect(throws: MartletError.self) { try place.store.template(.minimal, team: team) }
    #expect(error?.code == .internalError)
  }

  @Test("a collection deletes exactly the old images that are neither named nor used")
  func collection() throws {
    let place = try TemporaryStore()
    let kept = try place.add(.minimal, team: .platform, digit: "a")
    let used = try place.add(.base, team: .platform, digit: "b")
    let unused = try place.add(try SafeName("old"), team: team, digit: "c")
    try place.removeManifest(.base, team: .platform)
    try place.removeManifest(try SafeName("old"), team: team)
    #expect(try place.store.collectGarbage(inUse: []).isEmpty, "young images are kept")
    let later = Date().addingTimeInterval(2 * ImageStore.collectionGrace)
    #expect(try place.store.collectGarbage(inUse: [used.digest], now: later) == [unused.digest])
    #expect(Tool.isReadable(place.store.blobPath(kept.digest).string))
    #expect(Tool.isReadable(place.store.blobPath(used.digest).string))
  }

  @Test("a collection deletes nothing while a manifest cannot be read")
  func collectionWithDamage() throws {
    let place = try TemporaryStore()
    let manifest = try place.add(.minimal, team: .platform)
    try Data("{".utf8).write(to: URL(fileURLWithPath: place.store.manifestPath(.minimal, team: .platform).string))
    let later = Date().addingTimeInterval(2 * ImageStore.collectionGrace)
    #expect(throws: MartletError.self) { try place.store.collectGarbage(inUse: [], now: later) }
    #expect(Tool.isReadable(place.store.blobPath(manifest.digest).string))
  }

  @Test("a host without a kernel reports how to build one")
  func noKernel() throws {
    let place = try TemporaryStore()
    let error = #expect(throws: MartletError.self) { try place.store.guestKernel() }
    #expect(error?.code == .notFound)
    #expect(error?.message.contains("make images") == true)
  }

  @Test("a newer kernel replaces the older one, whose files stay until a collection")
  func kernelReplaced() throws {
    let place = try TemporaryStore()
    try publishKernel("6.1.0-1", in: place)
    let old = try place.store.guestKernel()
    try publishKernel("6.1.0-2", in: place)
    #expect(try place.store.guestKernel().version == "6.1.0-2")
    #expect(Tool.isReadable(old.vmlinux.string))
    try place.store.collectGarbage(inUse: [], now: Date().addingTimeInterval(2 * ImageStore.collectionGrace))
    #expect(!Tool.isReadable(old.vmlinux.string))
    #expect(try place.store.guestKernel().version == "6.1.0-2")
  }

  private func publishKernel(_ version: String, in place: TemporaryStore) throws {
    let staged = place.store.directory.appending("staged")
    try Directories.create(staged)
    for name in ["vmlinux", "initramfs", "modules.tar"] {
      try Data([1]).write(to: URL(fileURLWithPath: staged.appending(name).string))
    }
    let digest = FileDigest.sha256(of: version)
    let manifest = KernelManifest(
      version: version, package: "1", recipe: 1, vmlinuxDigest: digest, initramfsDigest: digest)
    try place.store.publishKernel(staged, manifest: manifest)
  }
}

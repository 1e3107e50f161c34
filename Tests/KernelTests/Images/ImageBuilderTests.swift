import Foundation
import Glibc
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Images

/// Builds real images; needs root, e2fsprogs, busybox and tar.
@Suite("Image builder", .serialized)
final class ImageBuilderTests: Sendable {
  private let place: FilePath
  private let store: ImageStore
  private let agent: FilePath
  private var builder: ImageBuilder { ImageBuilder(store: store, agentBinary: agent) }

  init() throws {
    place = FilePath("/var/tmp/martlet-builder-\(UUID().uuidString.lowercased())")
    try Directories.create(place, mode: 0o700)
    store = ImageStore(directory: place.appending("store"))
    agent = place.appending("envd")
    try SmallFile.replace(agent, with: Array("#!/bin/sh\necho agent\n".utf8), mode: 0o755)
  }

  deinit {
    try? Directories.removeTree(place)
  }

  private func debugfs(_ image: TemplateImage, _ request: String) async throws -> String {
    try await Tool.run("debugfs", ["-R", request, image.path.string]).checked().outputText
  }

  private func check(_ image: TemplateImage) async throws {
    try await Tool.run("e2fsck", ["-f", "-n", image.path.string]).checked()
    #expect(try Directories.names(in: store.building).isEmpty, "nothing is left in the work directory")
  }

  /// A tree with a shell, a file of another owner and a link that leads out of it.
  private func makeTree() throws -> FilePath {
    let tree = RootTree(root: place.appending("tree"))
    try Directories.create(tree.root)
    try tree.write("#!x\n", to: "/bin/sh", permissions: 0o755)
    try tree.write("data", to: "/srv/data", permissions: 0o640, owner: 4_321)
    try tree.link("/usr/local", to: "/etc")
    return tree.root
  }

  @Test("minimal is a valid image with busybox, the agent and both accounts")
  func minimal() async throws {
    let image = try await builder.buildMinimal()
    try await check(image)
    #expect(try await debugfs(image, "stat /bin/busybox").contains("Mode:  0755"))
    #expect(try await debugfs(image, "cat /usr/local/bin/envd") == "#!/bin/sh\necho agent\n")
    #expect(try await debugfs(image, "cat /etc/passwd").contains("user:x:1000:1000:user:/home/user:/bin/sh"))
    #expect(try await debugfs(image, "cat /etc/resolv.conf") == "nameserver 169.254.0.22\n")
    #expect(try await debugfs(image, "stat /home/user").contains("User:  1000"))
    #expect(image.allocatedBytes < 32 << 20)
    #expect(try store.template(.minimal, team: TeamID()) == image)
    #expect(try await FileDigest.sha256(of: image.path) == image.digest)
  }

  @Test("a template from a directory keeps owners and changes neither the directory nor the host")
  func fromDirectory() async throws {
    let source = try makeTree()
    let before = try await Tool.run("find", [source.string, "-printf", "%p %m %U %T@ %l\n"]).checked().outputText
    let team = TeamID()
    let image = try await builder.buildTemplate(name: try SafeName("mine"), team: team, from: source, envs: ["A": "b"])
    try await check(image)
    #expect(try await debugfs(image, "stat /srv/data").contains("User:  4321"))
    #expect(
      try await debugfs(image, "stat /etc/bin/envd").contains("Mode:  0755"),
      "the agent is installed where the link leads inside the tree")
    #expect(access("/etc/bin/envd", F_OK) != 0, "and not where it leads on the host")
    #expect(image.defaultUser == "root" && image.envs == ["A": "b"])
    let after = try await Tool.run("find", [source.string, "-printf", "%p %m %U %T@ %l\n"]).checked().outputText
    #expect(before == after)
    #expect(try store.template(try SafeName("mine"), team: team) == image)
    #expect(throws: MartletError.self) { try store.template(try SafeName("mine"), team: TeamID()) }
  }

  @Test(
    "a template is made from a tar archive with any compression",
    arguments: ["--no-auto-compress", "--gzip", "--xz", "--zstd"])
  func fromArchive(compression: String) async throws {
    let source = try makeTree()
    let archive = place.appending("tree.tar")
    try await Tool.run("tar", ["-c", compression, "-f", archive.string, "-C", source.string, "."]).checked()
    let image = try await builder.buildTemplate(name: try SafeName("packed"), team: TeamID(), from: archive)
    try await check(image)
    #expect(try await debugfs(image, "stat /srv/data").contains("User:  4321"))
  }

  @Test("a hostile archive with absolute paths, .. and outward links writes nothing outside")
  func hostileArchive() async throws {
    let victim = place.appending("victim")
    try Directories.create(victim)
    let archive = place.appending("hostile.tar")
    let script = """
      import io, sys, tarfile
      t = tarfile.open(sys.argv[1], 'w')
      def add(name, content=b'x', **fields):
          i = tarfile.TarInfo(name); i.mode = 0o755
          for key, value in fields.items(): setattr(i, key, value)
          i.size = len(content) if i.type == tarfile.REGTYPE else 0
          t.addfile(i, io.BytesIO(content))
      add('bin/sh')
      add('out', type=tarfile.SYMTYPE, linkname=sys.argv[2])
      add('out/planted')
      add(sys.argv[2] + '/absolute')
      add('null', type=tarfile.CHRTYPE, devmajor=1, devminor=3)
      t.close()
      """
    try await Tool.run("python3", ["-c", script, archive.string, victim.string]).checked()
    // GNU tar may refuse the archive as a whole; the test checks that nothing appears outside.
    let image = try? await builder.buildTemplate(name: try SafeName("hostile"), team: TeamID(), from: archive)
    #expect(try Directories.names(in: victim).isEmpty)
    if let image {
      try await check(image)
      #expect(try await debugfs(image, "stat /null").isEmpty, "devices are left out")
    }
  }

  @Test("a source that is not a root file system is invalid_request and leaves nothing behind")
  func notARoot() async throws {
    let empty = place.appending("empty")
    try Directories.create(empty)
    for source in [empty, agent, FilePath("/dev/null"), place.appending("missing")] {
      let error = await #expect(throws: MartletError.self) {
        try await builder.buildTemplate(name: try SafeName("bad"), team: TeamID(), from: source)
      }
      #expect(error?.code == .invalidRequest)
    }
    let taken = await #expect(throws: MartletError.self) {
      try await builder.buildTemplate(name: .base, team: TeamID(), from: empty)
    }
    #expect(taken?.code == .invalidRequest)
    #expect(try store.templates(team: nil).isEmpty)
    #expect(try Directories.names(in: store.building).isEmpty)
  }

  @Test("an interrupted build leaves the old template, and the next build removes its leftovers")
  func interrupted() async throws {
    let first = try await builder.buildMinimal()
    let leftover = store.building.appending("build-1-dead/root")
    try Directories.create(leftover)
    try SmallFile.replace(agent, with: Array("#!/bin/sh\necho new\n".utf8), mode: 0o755)
    let task = Task { try await builder.buildMinimal() }
    task.cancel()
    _ = await task.result
    let present = try store.template(.minimal, team: .platform)
    #expect(Tool.isReadable(present.path.string))
    let second = try await builder.buildMinimal()
    #expect(second.digest != first.digest)
    #expect(try Directories.names(in: store.building).isEmpty)
    let later = Date().addingTimeInterval(2 * ImageStore.collectionGrace)
    #expect(try store.collectGarbage(inUse: [], now: later).contains(first.digest))
    #expect(try store.template(.minimal, team: .platform) == second)
  }

  @Test("two concurrent builds run one after the other")
  func concurrent() async throws {
    async let first = builder.buildMinimal()
    async let second = builder.buildMinimal()
    let digests = try await [first.digest, second.digest]
    #expect(digests.contains(try store.template(.minimal, team: .platform).digest))
  }
}

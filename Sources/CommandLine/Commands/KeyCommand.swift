import APIClient
import ArgumentParser

struct KeyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "key", abstract: "Create, list and delete the API keys of your team.",
    subcommands: [List.self, Create.self, Delete.self])

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List keys.", aliases: ["list"])

    @OptionGroup var output: OutputOptions
    @OptionGroup var session: SessionOptions

    func run() async throws {
      let keys = try await session.withClient { try await $0.listKeys() }
      try await output.print(keys) { Self.table(keys).rendered }
    }

    static func table(_ keys: [KeyResource]) -> Table {
      Table(
        header: ["ID", "NAME", "BEGINS WITH", "LAST USED", "AGE"],
        rows: keys.map { key in
          [
            key.id, key.name, key.keyPrefix ?? "-", key.lastUsed.map { Formatting.age(since: $0) + " ago" } ?? "never",
            Formatting.age(since: key.createdAt),
          ]
        })
    }
  }

  struct Create: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "create", abstract: "Create a key and print it; it cannot be shown again.")

    @Argument(help: "Name of the key.")
    var name: String?
    @OptionGroup var output: OutputOptions
    @OptionGroup var session: SessionOptions

    func run() async throws {
      let key = try await session.withClient { try await $0.createKey(name: name) }
      try await output.print(key) { key.key ?? "" }
    }
  }

  struct Delete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "rm", abstract: "Delete keys; the server refuses them at once.", aliases: ["delete"])

    @Argument(help: "Ids of keys.")
    var keys: [String]
    @OptionGroup var session: SessionOptions

    func run() async throws {
      try await session.withClient { client in
        for key in keys { try await client.deleteKey(key) }
      }
    }
  }
}

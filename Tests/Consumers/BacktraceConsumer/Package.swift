// swift-tools-version: 6.2
// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import PackageDescription

// The toolchain has a module named Runtime (backtraces) too. With this alias our umbrella is compiled as BastionRuntime,
// and `import Runtime` means ours in the target that declares the alias and the toolchain's in every other target.
//
// Three things that SwiftPM 6.3 asks for, none of which it says when they are wrong ("no such module"):
// - `package:` is the identity of the dependency, the last part of its URL or path; the `name:` of `.package(name:path:)`
//   is not taken for the alias. Of a checkout that is the folder it lies in.
// - The target with the alias goes on writing `import Runtime` (https://github.com/swiftlang/swift-package-manager/issues/10417).
// - It is the executable itself: below an executable, an alias of one target of the package reaches all of them.
let checkout = String(Context.packageDirectory.split(separator: "/").dropLast(3).last!)
let settings: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

let package = Package(
    name: "BacktraceConsumer",
    dependencies: [.package(path: "../../..")],
    targets: [
        .executableTarget(
            name: "BacktraceConsumer",
            dependencies: [
                .product(name: "Runtime", package: checkout, moduleAliases: ["Runtime": "BastionRuntime"]),
                "Traces",
            ],
            swiftSettings: settings
        ),
        .target(name: "Traces", swiftSettings: settings),
    ]
)

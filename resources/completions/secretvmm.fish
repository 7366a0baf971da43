# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_secretvmm_global_optspecs
    string join \n kernel= initrd= cmdline= mem= cpus= backing= memory= disk= net= vsock= rng api-sock= config-file= no-api id= metadata= http-api-max-payload-size= mmds-size-limit= attestation-key= log-level= log-path= show-level show-log-origin module= metrics-path= boot-timer no-seccomp no-landlock drives-from= no-core-scheduling keep-capabilities seccomp-filter= enable-pci shutdown-timeout= start-time-us= start-time-cpu-us= parent-cpu-time-us= h/help V/version
end

function __fish_secretvmm_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_secretvmm_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_secretvmm_using_subcommand
    set -l cmd (__fish_secretvmm_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c secretvmm -n "__fish_secretvmm_needs_command" -l kernel -d 'Kernel: a bzImage, or an ELF vmlinux built with CONFIG_PVH' -r -F
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l initrd -d 'Initial RAM disk' -r -F
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l cmdline -d 'Kernel command line; replaces the default altogether' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l mem -d 'Guest memory with a suffix K, M or G, at least 32M; rounded up to a multiple of 2M' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l cpus -d 'Number of vCPUs, 1 to 32' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l backing -d 'What guest memory is made of: secret (default) or shared; see below' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l memory -d 'The name of --backing before' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l disk -d 'Block device; may be repeated. The first is the root device, unless --cmdline has a root=' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l net -d 'Network interface on a TAP device; may be repeated' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l vsock -d 'Sockets between host and guest (vsock): the guest\'s CID, and a unix socket on the host' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l api-sock -d 'Serve the API on this unix socket; /run/firecracker.socket if there is neither --kernel nor --no-api' -r -F
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l config-file -d 'Take the VM from a JSON file with the API\'s resources' -r -F
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l id -d 'Name of the VM in the API and in logs' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l metadata -d 'Contents of the metadata service (MMDS), a JSON file' -r -F
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l http-api-max-payload-size -d 'Maximum size of a request body' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l mmds-size-limit -d 'Maximum size of the metadata; by default that of a request body' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l attestation-key -d 'Sign tokens (GET /attestation) with this Ed25519 key; it is made, with mode 0600, if it is not there' -r -F
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l log-level -l level -d 'How much to log: off, error, warning (default), info, debug or trace' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l log-path -d 'Log to this file or named pipe instead of standard error' -r -F
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l module -d 'Log only what comes from this module' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l metrics-path -d 'Write metrics to this file or named pipe, as lines of JSON' -r -F
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l drives-from -d 'Open only files in this folder when a client replaces a drive\'s; may be repeated. By default a file may be anywhere but in /proc and /sys' -r -F
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l seccomp-filter -d 'Filters compiled for Firecracker: refused, for they allow its system calls and not this program\'s' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l shutdown-timeout -d 'How long a guest that is asked to shut down may take; SIGTERM then asks for it, instead of ending the VM at once' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l start-time-us -d 'When this process was started, in microseconds; taken from jailers and not used' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l start-time-cpu-us -d 'As above, of the CPU clock' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l parent-cpu-time-us -d 'CPU time of the parent' -r
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l rng -d 'An entropy device'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l no-api -d 'Do not serve the API (the default with --kernel or --config-file)'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l show-level -d 'Begin each message in the file with its level'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l show-log-origin -d 'Begin each message in the file with its place in the source'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l boot-timer -d 'Log how long the guest takes to boot, when it writes 123 to 0xc0000000'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l no-seccomp -d 'Let every thread make every system call; by default each is confined to those that it needs'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l no-landlock -d 'Let threads reach every file of this user; by default they are confined to those that they need (Landlock)'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l no-core-scheduling -d 'Let vCPUs share a core with other processes; by default, where the host can, they do so with each other only'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l keep-capabilities -d 'Keep the rights of root\'s that this process has; by default they are given up before the guest runs'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -l enable-pci -d 'Accepted for callers of Firecracker, with a warning: every device here is on virtio-mmio'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -s h -l help -d 'Print this help; -h prints a summary'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -s V -l version -d 'Print the version'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -f -a "attest" -d 'Ask a running VMM for a token that says which VM it is and what the kernel says of it'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -f -a "public-key" -d 'Print the public half of an attestation key in PEM, for verifiers'
complete -c secretvmm -n "__fish_secretvmm_needs_command" -f -a "measure" -d 'Print the digests that a guest of these files will have in its tokens, as JSON'
complete -c secretvmm -n "__fish_secretvmm_using_subcommand attest" -l api-sock -d 'The VMM\'s API socket' -r -F
complete -c secretvmm -n "__fish_secretvmm_using_subcommand attest" -l nonce -d '8 to 64 bytes that the verifier has made up' -r
complete -c secretvmm -n "__fish_secretvmm_using_subcommand attest" -l output -d 'Write the token there; otherwise it is printed in base64url' -r -F
complete -c secretvmm -n "__fish_secretvmm_using_subcommand attest" -s h -l help -d 'Print this help; -h prints a summary'
complete -c secretvmm -n "__fish_secretvmm_using_subcommand public-key" -s h -l help -d 'Print this help; -h prints a summary'
complete -c secretvmm -n "__fish_secretvmm_using_subcommand measure" -l kernel -d 'Kernel: a bzImage, or an ELF vmlinux built with CONFIG_PVH' -r -F
complete -c secretvmm -n "__fish_secretvmm_using_subcommand measure" -l initrd -d 'Initial RAM disk' -r -F
complete -c secretvmm -n "__fish_secretvmm_using_subcommand measure" -l cmdline -d 'Kernel command line, with the root= that a root device adds to it' -r
complete -c secretvmm -n "__fish_secretvmm_using_subcommand measure" -s h -l help -d 'Print this help; -h prints a summary'

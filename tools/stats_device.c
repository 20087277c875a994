/* SPDX-License-Identifier: Apache-2.0 */
/* stats_device.c - the devices that code for a mount, as a table and JSON. */
#include <inttypes.h>
#include <stdio.h>

#include "tools/cmd.h"
#include "tools/json.h"
#include "tools/stats.h"

/* MiB/s from nanoseconds for a GiB; 0: not known. */
static double mib_s(uint64_t ns)
{
	return ns ? 1024.0 * 1e9 / (double)ns : 0;
}

static void print_rates(const struct bale_ioc_device *d)
{
	printf("%-16s%11s%11s%11s%11s%14s\n", "MiB/s, expected", "cpu enc",
	       "gpu enc", "cpu dec", "gpu dec", "gpu start us");
	for (int k = 0; k < 8 && d->rates[k].kind[0]; k++) {
		const struct bale_ioc_rate *r = &d->rates[k];

		if (!r->cpu_ns[0] && !r->gpu_ns[0] && !r->cpu_ns[1] &&
		    !r->gpu_ns[1])
			continue;
		printf("%-16s%11.0f%11.0f%11.0f%11.0f%14.0f\n", r->kind,
		       mib_s(r->cpu_ns[0]), mib_s(r->gpu_ns[0]),
		       mib_s(r->cpu_ns[1]), mib_s(r->gpu_ns[1]),
		       (double)r->gpu_fixed_ns[0] / 1e3);
	}
}

static void print_device(const struct bale_ioc_device *d)
{
	printf("\ngpu %u: %s, %s\n", d->idx, d->name, d->state);
	printf("  memory %" PRIu64 " MiB, pinned %" PRIu64
	       " MiB, a slot %" PRIu64 " MiB\n",
	       d->mem_bytes >> 20, d->pinned_bytes >> 20, d->slot_bytes >> 20);
	printf("  batches %" PRIu64 ", kernels ran %.3f s\n", d->batches,
	       (double)d->device_ns / 1e9);
	printf("  encoded %" PRIu64 " jobs, %" PRIu64 " bytes to %" PRIu64 "\n",
	       d->jobs[0], d->bytes_in[0], d->bytes_out[0]);
	printf("  decoded %" PRIu64 " jobs, %" PRIu64 " bytes to %" PRIu64 "\n",
	       d->jobs[1], d->bytes_in[1], d->bytes_out[1]);
	printf("  done by the CPU instead %" PRIu64 ", of them wrong %" PRIu64
	       "; lost %" PRIu64 ", hung %" PRIu64 ", back %" PRIu64 "\n",
	       d->failed_over, d->mismatches, d->lost, d->hung, d->reopened);
}

void bale_stats_print_devices(const struct bale_stats *s)
{
	for (unsigned int k = 0; k < s->nr_devices; k++)
		print_device(&s->devices[k]);
	if (s->nr_devices)
		print_rates(&s->devices[0]);
}

static void device_json(struct bale_json *j, const struct bale_ioc_device *d)
{
	bale_json_object(j, NULL);
	bale_json_str(j, "name", d->name);
	bale_json_str(j, "state", d->state);
	bale_json_u64(j, "memory_bytes", d->mem_bytes);
	bale_json_u64(j, "pinned_bytes", d->pinned_bytes);
	bale_json_u64(j, "slot_bytes", d->slot_bytes);
	bale_json_u64(j, "batches", d->batches);
	bale_json_ratio(j, "device_seconds", (double)d->device_ns / 1e9);
	bale_json_u64(j, "encode_jobs", d->jobs[0]);
	bale_json_u64(j, "encode_bytes_in", d->bytes_in[0]);
	bale_json_u64(j, "encode_bytes_out", d->bytes_out[0]);
	bale_json_u64(j, "decode_jobs", d->jobs[1]);
	bale_json_u64(j, "decode_bytes_in", d->bytes_in[1]);
	bale_json_u64(j, "decode_bytes_out", d->bytes_out[1]);
	bale_json_u64(j, "failed_over_jobs", d->failed_over);
	bale_json_u64(j, "mismatches", d->mismatches);
	bale_json_u64(j, "lost", d->lost);
	bale_json_u64(j, "hung", d->hung);
	bale_json_u64(j, "reopened", d->reopened);
	bale_json_array(j, "expected");
	for (int k = 0; k < 8 && d->rates[k].kind[0]; k++) {
		const struct bale_ioc_rate *r = &d->rates[k];

		bale_json_object(j, NULL);
		bale_json_str(j, "kind", r->kind);
		bale_json_u64(j, "cpu_encode_ns_per_gib", r->cpu_ns[0]);
		bale_json_u64(j, "gpu_encode_ns_per_gib", r->gpu_ns[0]);
		bale_json_u64(j, "gpu_encode_start_ns", r->gpu_fixed_ns[0]);
		bale_json_u64(j, "cpu_decode_ns_per_gib", r->cpu_ns[1]);
		bale_json_u64(j, "gpu_decode_ns_per_gib", r->gpu_ns[1]);
		bale_json_u64(j, "gpu_decode_start_ns", r->gpu_fixed_ns[1]);
		bale_json_end(j);
	}
	bale_json_end(j);
	bale_json_end(j);
}

void bale_stats_devices_json(struct bale_json *j, const struct bale_stats *s)
{
	if (!s->nr_devices)
		return;
	bale_json_array(j, "devices");
	for (unsigned int k = 0; k < s->nr_devices; k++)
		device_json(j, &s->devices[k]);
	bale_json_end(j);
}
